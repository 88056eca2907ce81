import numpy as np
import pytest
from detector.material import crops, photo

from emotion_trainer.detector.backgrounds import face_free_parts, pattern, window
from emotion_trainer.detector.recipe import SceneSettings
from emotion_trainer.detector.scenes import LEAST_SIZE, Material, SceneMaker, close_up, scrambled

PHOTOS = [photo(seed) for seed in range(12)]
MATERIAL = Material(PHOTOS, crops(), face_free_parts(PHOTOS))


def maker(**settings: float) -> SceneMaker:
    return SceneMaker(MATERIAL, SceneSettings.model_validate(settings))


def test_the_same_chance_makes_the_same_scene() -> None:
    first, again = (maker().scene(np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.faces.boxes, again.faces.boxes)
    assert not np.array_equal(first.image, maker().scene(np.random.default_rng(5)).image)


@pytest.mark.parametrize("photos", [0.0, 1.0])
def test_faces_are_where_the_labels_say(photos: float) -> None:
    """Faces here are brighter than all else, and their eyes are darker than they are."""
    rng = np.random.default_rng(1)
    made = maker(photos=photos, empty=0.0, hidden=0.0)
    brighter, darker = [], []
    for _ in range(60):
        scene = made.scene(rng)
        clear = scene.faces.chosen((scene.faces.sizes > 24) & ~scene.faces.doubtful)
        for box, marks in zip(clear.boxes, clear.landmarks, strict=True):
            face = _mean(scene.image, box[0] + 0.5 * box[2], box[1] + 0.62 * box[3])
            eyes = [_mean(scene.image, *marks[eye]) for eye in (0, 1)]
            darker += [eye < face for eye in eyes if np.isfinite(eye)]
            brighter.append(face > np.median(scene.image))
    assert len(brighter) > 30
    assert np.mean(brighter) > 0.8
    assert np.mean(darker) > 0.9


def _mean(image: np.ndarray, x: float, y: float) -> float:
    near = image[int(max(0, y - 1)) : int(y + 2), int(max(0, x - 1)) : int(x + 2)]
    return float(near.mean()) if near.size else float("nan")


def test_sizes_reach_from_tiny_to_the_whole_scene_and_tilts_both_ways() -> None:
    rng = np.random.default_rng(2)
    scenes = [maker().scene(rng) for _ in range(200)]
    sizes = np.concatenate([scene.faces.sizes for scene in scenes])
    tilts = np.concatenate([scene.faces.tilt for scene in scenes])
    assert sizes.min() < 14
    assert sizes.max() > 110
    assert tilts.min() < -20
    assert tilts.max() > 20
    assert max(len(scene.faces) for scene in scenes) >= 4
    assert any(len(scene.faces) == 0 for scene in scenes)


def test_what_is_hidden_is_told() -> None:
    rng = np.random.default_rng(3)
    covered = [maker(hidden=1.0, empty=0.0).scene(rng).faces.covered for _ in range(20)]
    assert np.concatenate(covered).max() > 0.1


def test_too_small_and_cut_off_faces_are_doubtful() -> None:
    rng = np.random.default_rng(4)
    for _ in range(80):
        faces = maker(smallest=4.0).scene(rng).faces
        assert faces.doubtful[faces.sizes < LEAST_SIZE].all()
        middles = faces.boxes[:, :2] + faces.boxes[:, 2:] / 2
        outside = ((middles < 0) | (middles > 160)).any(axis=1)
        assert faces.doubtful[outside].all()


def test_mined_backgrounds_are_shown_again() -> None:
    mined = [np.full((160, 160), 255, np.uint8)]
    rng = np.random.default_rng(5)
    made = maker(empty=1.0, mined=1.0)
    means = [made.scene(rng, mined).image.std() for _ in range(20)]
    assert np.median(means) < 15


def test_face_free_parts_leave_out_the_faces() -> None:
    for part in face_free_parts(PHOTOS):
        assert (part > 200).mean() < 0.01
        assert window([part], 64, np.random.default_rng(0)).shape == (64, 64)


def test_patterns_differ() -> None:
    rng = np.random.default_rng(6)
    assert len({pattern(96, rng).tobytes() for _ in range(20)}) == 20


def test_a_scrambled_picture_has_the_same_pixels_elsewhere() -> None:
    image = np.arange(48 * 48, dtype=np.uint32).reshape(48, 48).astype(np.uint8)
    mixed = scrambled(image, np.random.default_rng(7))
    np.testing.assert_array_equal(np.sort(mixed.ravel()), np.sort(image.ravel()))
    tiles = [
        np.array_equal(mixed[y : y + 16, x : x + 16], image[y : y + 16, x : x + 16])
        for y in (0, 16, 32)
        for x in (0, 16, 32)
    ]
    assert not np.array_equal(mixed, image)
    assert len(tiles) == 9


def test_a_close_up_holds_its_face_alone() -> None:
    single = close_up(PHOTOS[0], 0)
    assert single.image.shape < PHOTOS[0].image.shape
    x, y, w, h = single.faces.boxes[0].astype(int)
    assert single.image[y + h * 6 // 10, x + w // 2] == 220
