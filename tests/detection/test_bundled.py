"""The bundled detector: sizes, invalid files, and real clips."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import Image, draw_face, draw_scene
from special_files import UNREADABLE, UNREADABLE_IDS

from edge_daemon._lib.files import bundled_detector, bundled_models, sha256_of
from edge_daemon.detection import bundled
from edge_daemon.detection.bundled import (
    LARGE_PATCH_SIDE,
    MAX_VERIFICATIONS,
    SMALL_PATCH_SIDE,
    BundledDetector,
    FaceSearch,
    MapNetwork,
    read_manifest,
)
from edge_daemon.detection.decoding import GEOMETRY, STRIDES
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.yunet import YuNetDetector
from edge_daemon.errors import DetectorError
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.records import Detection

MIN_OVERLAP = 0.5
PATCH_SIDES = (SMALL_PATCH_SIDE, LARGE_PATCH_SIDE)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A copy of the manifest and its model."""
    shipped = bundled_detector()
    shutil.copy(shipped.parent / read_manifest(shipped).file, tmp_path)
    return Path(shutil.copy(shipped, tmp_path))


def altered(manifest: Path, **changes: object) -> Path:
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | changes))
    return manifest


@pytest.mark.parametrize("make", UNREADABLE, ids=UNREADABLE_IDS)
def test_bundled_detector_with_special_model_is_refused(
    manifest: Path, make: Callable[[Path], None]
) -> None:
    model = manifest.parent / read_manifest(manifest).file
    model.unlink()
    make(model)
    with pytest.raises(DetectorError) as refused:
        BundledDetector(manifest, 0.5)
    assert str(refused.value).startswith(f"{model}: cannot be read: ")


def test_bundled_manifest_is_valid_and_the_network_small() -> None:
    about = read_manifest(bundled_detector())
    assert about.parameters <= 150_000
    assert about.mmac <= 60


@pytest.mark.parametrize("size", [(32, 32), (150, 200), (192, 320), (320, 320), (33, 100)])
def test_map_network_accepts_any_size(size: tuple[int, int]) -> None:
    about = read_manifest(bundled_detector())
    network = MapNetwork(bundled_models() / about.file, threads=1)
    rng = np.random.default_rng(0)
    scores, geometry = network.maps(rng.integers(0, 256, size, dtype=np.uint8))
    for map_, places, stride in zip(scores, geometry, STRIDES, strict=True):
        rows, columns = (-(-side // 32) * 32 // stride for side in size)
        assert map_.shape == (rows, columns)
        assert places.shape == (rows, columns, GEOMETRY)


def test_map_network_after_a_larger_picture_gives_the_same_maps() -> None:
    about = read_manifest(bundled_detector())
    network = MapNetwork(bundled_models() / about.file, threads=1)
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (100, 150), dtype=np.uint8)
    before, _ = network.maps(small)
    network.maps(np.full((128, 160), 255, np.uint8))
    after, _ = network.maps(small)
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"file": "absent.tflite"}, r"absent\.tflite"),
        ({"file": "../model.tflite"}, "file"),
        ({"framing": {"x": 0, "y": 0, "width": 0, "height": 1}}, "framing.width"),
        ({"odd": 1}, "odd"),
    ],
)
def test_detector_with_an_invalid_manifest_is_an_error(
    manifest: Path, changes: dict[str, object], word: str
) -> None:
    with pytest.raises(DetectorError, match=word):
        BundledDetector(altered(manifest, **changes), 0.7)


def test_detector_with_a_damaged_model_is_an_error(manifest: Path) -> None:
    model = manifest.parent / "damaged.tflite"
    model.write_bytes(b"no model" * 100)
    altered(manifest, file=model.name, sha256=sha256_of(model))
    with pytest.raises(DetectorError, match=r"damaged\.tflite"):
        BundledDetector(manifest, 0.7)


def test_detector_with_a_model_of_another_kind_is_an_error(manifest: Path) -> None:
    member = read_bundle(bundled_models()).members[0]
    shutil.copy(bundled_models() / member.file, manifest.parent)
    altered(manifest, file=member.file, sha256=member.sha256)
    with pytest.raises(DetectorError, match=member.file):
        BundledDetector(manifest, 0.7)


def frames_of(clip: Path) -> Iterator[Image]:
    capture = cv2.VideoCapture(str(clip))
    while (read := capture.read())[0]:
        yield np.asarray(read[1], np.uint8)
    capture.release()


def matches(found: list[Detection], truth: list[Detection]) -> int:
    """The number of true faces that were found."""
    return sum(any(face.box.iou(known.box) >= MIN_OVERLAP for face in found) for known in truth)


def certain(
    detector: BundledDetector | YuNetDetector | HaarDetector, frame: Image
) -> list[Detection]:
    return [face for face in detector.detect(frame) if face.score >= detector.start_score]


def test_detector_on_real_clips_agrees_with_yunet(clips: list[Path], yunet_model: Path) -> None:
    bundled = BundledDetector(bundled_detector(), 0.7)
    yunet = YuNetDetector(yunet_model, 0.7)
    known, met, wrong = 0, 0, 0
    for clip in clips:
        for frame in frames_of(clip):
            truth, found = certain(yunet, frame), certain(bundled, frame)
            known += len(truth)
            met += matches(found, truth)
            wrong += len(found) - matches(truth, found)
    assert known > 250
    assert met >= 0.95 * known
    assert wrong == 0


def test_detector_on_turning_heads_finds_more_than_haar(clips: list[Path]) -> None:
    turning = next(clip for clip in clips if "female-and-male" in clip.name)
    bundled, haar = BundledDetector(bundled_detector(), 0.7), HaarDetector(24)
    frames = list(frames_of(turning))
    by_bundled = sum(len(certain(bundled, frame)) for frame in frames)
    by_haar = sum(len(certain(haar, frame)) for frame in frames)
    assert by_bundled >= 5 * by_haar


def test_detector_on_a_face_that_fills_the_picture_finds_it_once() -> None:
    detector = BundledDetector(bundled_detector(), 0.7)
    picture = draw_scene((40, 40, 400), size=(480, 480))
    (found,) = certain(detector, picture)
    assert found.box.width > 200


@pytest.mark.parametrize("side", [640, 900, 1100])
def test_detector_on_a_close_up_finds_the_face_once(side: int) -> None:
    detector = BundledDetector(bundled_detector(), 0.7)
    edge = (side - 640) // 2
    close_up = draw_face(side)[edge : edge + 640, edge : edge + 640]
    (found,) = certain(detector, cv2.cvtColor(close_up, cv2.COLOR_GRAY2BGR))
    assert found.box.width > 0.55 * side


def test_detector_on_a_tiny_picture_finds_nothing() -> None:
    detector = BundledDetector(bundled_detector(), 0.7)
    assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []


class Patches:
    """Counts the patches by their size, which no picture here has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        maps = MapNetwork.maps

        def counted(network: MapNetwork, grey: Image) -> object:
            self.number += grey.shape in {(side, side) for side in PATCH_SIDES}
            return maps(network, grey)

        monkeypatch.setattr(MapNetwork, "maps", counted)


@pytest.fixture
def search() -> FaceSearch:
    about = read_manifest(bundled_detector())
    return FaceSearch(bundled_models() / about.file, threads=1)


def grey_scene(*faces: tuple[int, int, int], size: tuple[int, int] = (320, 240)) -> Image:
    return np.asarray(cv2.cvtColor(draw_scene(*faces, size=size), cv2.COLOR_BGR2GRAY), np.uint8)


def test_crowd_has_a_limited_number_of_verifications(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = Patches(monkeypatch)
    crowd = [(40 * x + 4, 40 * y + 4, 32) for x in range(5) for y in range(5)]
    found = search.faces(grey_scene(*crowd, size=(208, 208)), 0.5)
    assert patches.number == MAX_VERIFICATIONS
    assert len(found) == len(crowd)


def test_face_that_its_patch_cannot_reject_is_not_verified(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = grey_scene((100, 80, 64))
    patches = Patches(monkeypatch)
    (found,) = search.faces(scene, 0.3, 0.5)
    assert patches.number == 0
    (verified,) = search.faces(scene, 0.3, found.score)
    assert patches.number == 1
    monkeypatch.setattr(search, "_patches", dict.fromkeys(PATCH_SIDES, NoFaces()))
    (rejected,) = search.faces(scene, 0.3, found.score)
    assert 0.5 <= rejected.score < verified.score


@pytest.mark.parametrize("x", [0, 70, 292])
def test_verified_face_keeps_its_position(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch, x: int
) -> None:
    scene = grey_scene((x, 60, 28))
    with monkeypatch.context() as without:
        without.setattr(bundled, "MAX_VERIFICATIONS", 0)
        (first,) = search.faces(scene, 0.3)
    (second,) = search.faces(scene, 0.3)
    assert second.box != first.box
    assert second.box.iou(first.box) > 0.7
    assert first.landmarks is not None
    assert second.landmarks is not None
    assert np.abs(second.landmarks - first.landmarks).max() < 3.0


@pytest.mark.parametrize("side", [24, 64])
def test_face_that_its_patch_lacks_is_less_certain(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    scene = grey_scene((100, 80, side))
    (verified,) = search.faces(scene, 0.3)
    monkeypatch.setattr(search, "_patches", dict.fromkeys(PATCH_SIDES, NoFaces()))
    (doubtful,) = search.faces(scene, 0.3)
    assert doubtful.score < verified.score - 0.05
    assert search.faces(scene, verified.score) == []


class NoFaces:
    """A network that finds nothing."""

    def maps(self, grey: Image) -> tuple[list[Image], list[Image]]:
        sizes = [[side // stride for side in grey.shape] for stride in STRIDES]
        scores = [np.full(size, -9.0, np.float32) for size in sizes]
        return scores, [np.zeros((*size, GEOMETRY), np.float32) for size in sizes]
