from dataclasses import replace

import numpy as np
import pytest
from detector.material import crops, faces_at, photo

from emotion_trainer.detector.backgrounds import face_free_parts, pattern, window
from emotion_trainer.detector.faces import LabelledImage
from emotion_trainer.detector.recipe import SceneSettings
from emotion_trainer.detector.scenes import (
    MIN_SIZE,
    Material,
    SceneMaker,
    close_up,
    is_close_up,
    mark_doubtful,
    material_of,
    scrambled,
)
from emotion_trainer.errors import DataError

PHOTOS = [photo(seed) for seed in range(12)]
MATERIAL = material_of(PHOTOS, crops())


FACELESS = LabelledImage(PHOTOS[0].image, PHOTOS[0].faces.chosen(np.zeros(1, np.bool_)))


def maker(**settings: float) -> SceneMaker:
    return SceneMaker(MATERIAL, SceneSettings.model_validate({"side": 160, **settings}))


def test_scenes_of_faces_need_photos_with_and_without_them() -> None:
    close = faces_at((0.0, 0.0, 240.0, 180.0))
    for photos in ([FACELESS], [LabelledImage(PHOTOS[0].image, close)]):
        with pytest.raises(DataError, match="--photos"):
            material_of(photos, crops())
    few = SceneMaker(material_of([FACELESS, PHOTOS[0]], crops()), SceneSettings(side=160))
    rng = np.random.default_rng(3)
    assert max(len(few.scene(rng).faces) for _ in range(60)) > 0


def test_scene_with_the_same_seed_is_the_same() -> None:
    first, again = (maker().scene(np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.faces.boxes, again.faces.boxes)
    assert not np.array_equal(first.image, maker().scene(np.random.default_rng(5)).image)


@pytest.mark.parametrize(
    "settings",
    [{"mosaic": 0.0, "composed": 0.0}, {"mosaic": 1.0, "composed": 0.0}, {"composed": 1.0}],
)
def test_scene_faces_match_their_labels(settings: dict[str, float]) -> None:
    """Faces here are brighter than the background, and their eyes are darker than the faces."""
    rng = np.random.default_rng(1)
    made = maker(empty=0.0, hidden=0.0, **settings)
    brighter, darker = [], []
    for _ in range(60):
        scene = made.scene(rng)
        clear = scene.faces.chosen((scene.faces.sizes > 24) & ~scene.faces.doubtful)
        for box, marks in zip(clear.boxes, clear.landmarks, strict=True):
            face = _mean(scene.image, box[0] + 0.5 * box[2], box[1] + 0.62 * box[3])
            eyes = [_mean(scene.image, *marks[eye]) for eye in (0, 1)]
            darker += [eye < face for eye in eyes if np.isfinite(eye)]
            brighter.append(face > np.median(scene.image))
    assert len(brighter) > 20
    assert np.mean(brighter) > 0.75
    assert np.mean(darker) > 0.9


def _mean(image: np.ndarray, x: float, y: float) -> float:
    near = image[int(max(0, y - 1)) : int(y + 2), int(max(0, x - 1)) : int(x + 2)]
    return float(near.mean()) if near.size else float("nan")


@pytest.mark.parametrize("scale", [0.12, 0.45, 1.0, 1.9])
@pytest.mark.parametrize("shape", [(640, 640), (575, 639)])
def test_scene_places_are_exact_at_every_scale(scale: float, shape: tuple[int, int]) -> None:
    """A white square in a photo, far from its origin, matches its label with subpixel accuracy."""
    image = np.zeros(shape, np.uint8)
    top, left = shape[0] - 180, shape[1] - 160
    image[top : top + 80, left : left + 80] = 255
    labelled = LabelledImage(image, faces_at((left, top, 80, 80)))
    size = 80 * scale
    settings = {"min_face": size, "max_face": size, "mosaic": 0, "composed": 0, "empty": 0}
    made = SceneMaker(
        material_of([labelled], crops()),
        SceneSettings.model_validate(
            {"side": 320, "hidden": 0, "tilt": 0, "wide": 1.0, **settings}
        ),
    )
    rng = np.random.default_rng(3)
    errors = [
        _offset(scene.image, box)
        for scene in (made.scene(rng) for _ in range(60))
        for box in scene.faces.boxes
        if box[:2].min() > 4 and (box[:2] + box[2:]).max() < 316
    ]
    assert len(errors) > 10
    np.testing.assert_allclose(np.mean(errors, axis=0), 0, atol=0.2)


def _offset(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """From the centre of a box to the centre of the bright pixels around it."""
    x, y = (box[:2] - 4).astype(int)
    side = int(box[2]) + 9
    part = image[y : y + side, x : x + side].astype(float)
    weight = (part - np.median(image)).clip(0)
    rows, columns = np.mgrid[:side, :side] + 0.5
    centre = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    return centre + np.array([x, y]) - (box[:2] + box[2:] / 2)


def test_scene_sizes_and_tilts_vary() -> None:
    rng = np.random.default_rng(2)
    scenes = [maker().scene(rng) for _ in range(200)]
    sizes = np.concatenate([scene.faces.sizes for scene in scenes])
    eyes = np.concatenate([scene.faces.landmarks[:, :2] for scene in scenes])
    across, down = (eyes[:, 1] - eyes[:, 0]).T
    tilts = np.degrees(np.arctan2(down, across))
    assert sizes.min() < 12
    assert sizes.max() > 70
    assert tilts.min() < -20
    assert tilts.max() > 20
    assert max(len(scene.faces) for scene in scenes) >= 4
    assert any(len(scene.faces) == 0 for scene in scenes)


@pytest.mark.parametrize("hidden", [0.0, 1.0])
def test_scene_with_hidden_faces_covers_a_part_of_them(hidden: float) -> None:
    """The photo is white and whatever covers its face is black."""
    white = LabelledImage(np.full((800, 800), 255, np.uint8), faces_at((370, 370, 60, 60)))
    material = Material([white], [white], crops(), [np.zeros((64, 64), np.uint8)])
    settings = SceneSettings(side=160, composed=0, mosaic=0, empty=0, min_face=50, hidden=hidden)
    rng = np.random.default_rng(3)
    made = SceneMaker(material, settings)
    scenes = [made.scene(rng) for _ in range(20)]
    sure = [scene for scene in scenes if not scene.faces.doubtful.any()]
    black = [(scene.image < np.median(scene.image) / 2).mean() > 0.002 for scene in sure]
    assert len(sure) > 10
    assert np.mean(black) == pytest.approx(hidden, abs=0.1)


def test_mark_doubtful_marks_small_and_cut_faces() -> None:
    faces = faces_at((50, 50, 30, 30), (50, 50, 5, 5), (-20, 10, 30, 30), (200, 10, 30, 30))
    inside = mark_doubtful(faces, (160, 160))
    assert inside.doubtful.tolist() == [False, True, True]
    assert inside.sizes[1] < MIN_SIZE


def test_scene_with_an_ignored_box_keeps_it_doubtful() -> None:
    plain = faces_at((60, 60, 40, 40), (120, 60, 40, 40))
    doubt = replace(plain, doubtful=np.array([False, True]))
    made = SceneMaker(
        material_of([LabelledImage(np.full((200, 240), 90, np.uint8), doubt)], crops()),
        SceneSettings(side=160, composed=0, mosaic=0, empty=0, tilt=0),
    )
    scenes = [made.scene(np.random.default_rng(seed)) for seed in range(20)]
    both = [scene.faces for scene in scenes if len(scene.faces) == 2]
    assert both
    assert all(faces.doubtful.any() for faces in both)


def test_scene_of_mined_backgrounds_shows_them() -> None:
    mined = [np.full((160, 160), 255, np.uint8)]
    rng = np.random.default_rng(5)
    made = maker(empty=1.0, mined=1.0)
    spreads = [made.scene(rng, mined).image.std() for _ in range(20)]
    assert np.median(spreads) < 15


def test_close_ups_are_photos_with_only_large_faces() -> None:
    image = np.zeros((100, 100), np.uint8)
    assert is_close_up(LabelledImage(image, faces_at((10, 10, 60, 60))))
    assert not is_close_up(LabelledImage(image, faces_at((10, 10, 60, 60), (80, 80, 10, 10))))
    assert not is_close_up(
        LabelledImage(image, faces_at((10, 10, 60, 60)).chosen(np.array([False])))
    )


def test_face_free_parts_leave_out_the_faces() -> None:
    for part in face_free_parts(PHOTOS):
        assert (part > 200).mean() < 0.01
        assert window([part], 64, np.random.default_rng(0)).shape == (64, 64)


def test_patterns_differ() -> None:
    rng = np.random.default_rng(6)
    assert len({pattern(96, rng).tobytes() for _ in range(20)}) == 20


def test_scrambled_image_has_the_same_pixels_elsewhere() -> None:
    image = np.arange(48 * 48, dtype=np.uint32).reshape(48, 48).astype(np.uint8)
    mixed = scrambled(image, np.random.default_rng(7))
    np.testing.assert_array_equal(np.sort(mixed.ravel()), np.sort(image.ravel()))
    assert not np.array_equal(mixed, image)


def test_close_up_holds_only_its_face() -> None:
    single = close_up(PHOTOS[0], 0)
    assert single.image.shape < PHOTOS[0].image.shape
    x, y, w, h = single.faces.boxes[0].astype(int)
    assert single.image[y + h * 6 // 10, x + w // 2] == 220
