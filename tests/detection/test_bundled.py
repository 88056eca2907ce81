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
    MAX_EVIDENCE,
    MAX_VERIFICATIONS,
    BundledDetector,
    FaceSearch,
    MapNetwork,
    VerifierNetwork,
    cut_patch,
    decode_geometry,
    read_manifest,
    with_evidence,
)
from edge_daemon.detection.decoding import GEOMETRY, STRIDES
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.yunet import YuNetDetector
from edge_daemon.errors import DetectorError
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.records import Box, Detection

MIN_OVERLAP = 0.5
NETWORKS = ("search", "verifier")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A copy of the manifest and its models."""
    shipped = bundled_detector()
    for file in read_manifest(shipped).files_in(shipped.parent):
        shutil.copy(file, tmp_path)
    return Path(shutil.copy(shipped, tmp_path))


def altered(manifest: Path, **changes: object) -> Path:
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | changes))
    return manifest


def with_network(manifest: Path, network: str, **changes: object) -> Path:
    return altered(manifest, **{network: json.loads(manifest.read_text())[network] | changes})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("make", UNREADABLE, ids=UNREADABLE_IDS)
def test_bundled_detector_with_special_model_is_refused(
    manifest: Path, make: Callable[[Path], None], network: str
) -> None:
    model = manifest.parent / getattr(read_manifest(manifest), network).file
    model.unlink()
    make(model)
    with pytest.raises(DetectorError) as refused:
        BundledDetector(manifest, 0.5)
    assert str(refused.value).startswith(f"{model}: cannot be read: ")


def test_bundled_manifest_is_valid_and_the_networks_small() -> None:
    about = read_manifest(bundled_detector())
    assert about.search.parameters + about.verifier.parameters <= 150_000
    assert about.search.mmac + about.verifier.mmac <= 60


@pytest.mark.parametrize("size", [(32, 32), (150, 200), (192, 320), (320, 320), (33, 100)])
def test_map_network_accepts_any_size(size: tuple[int, int]) -> None:
    about = read_manifest(bundled_detector())
    network = MapNetwork(bundled_models() / about.search.file, threads=1)
    rng = np.random.default_rng(0)
    scores, geometry = network.maps(rng.integers(0, 256, size, dtype=np.uint8))
    for map_, places, stride in zip(scores, geometry, STRIDES, strict=True):
        rows, columns = (-(-side // 32) * 32 // stride for side in size)
        assert map_.shape == (rows, columns)
        assert places.shape == (rows, columns, GEOMETRY)


def test_map_network_after_a_larger_picture_gives_the_same_maps() -> None:
    about = read_manifest(bundled_detector())
    network = MapNetwork(bundled_models() / about.search.file, threads=1)
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
        ({"framing": {"x": 0, "y": 0, "width": 0, "height": 1}}, "framing.width"),
        ({"odd": 1}, "odd"),
        ({"verifier": None}, "verifier"),
    ],
)
def test_detector_with_an_invalid_manifest_is_an_error(
    manifest: Path, changes: dict[str, object], word: str
) -> None:
    with pytest.raises(DetectorError, match=word):
        BundledDetector(altered(manifest, **changes), 0.7)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sha256": "short"}, r"\.sha256"),
        ({"file": "absent.tflite"}, r"absent\.tflite"),
        ({"file": "../model.tflite"}, r"\.file"),
        ({"odd": 1}, r"\.odd"),
    ],
)
def test_detector_with_an_invalid_network_is_an_error(
    manifest: Path, network: str, changes: dict[str, object], word: str
) -> None:
    with pytest.raises(DetectorError, match=word):
        BundledDetector(with_network(manifest, network, **changes), 0.7)


@pytest.mark.parametrize("network", NETWORKS)
def test_detector_with_a_damaged_model_is_an_error(manifest: Path, network: str) -> None:
    model = manifest.parent / "damaged.tflite"
    model.write_bytes(b"no model" * 100)
    with_network(manifest, network, file=model.name, sha256=sha256_of(model))
    with pytest.raises(DetectorError, match=r"damaged\.tflite"):
        BundledDetector(manifest, 0.7)


@pytest.mark.parametrize("network", NETWORKS)
def test_detector_with_an_altered_model_is_an_error(manifest: Path, network: str) -> None:
    model = manifest.parent / getattr(read_manifest(manifest), network).file
    model.write_bytes(model.read_bytes() + b"more")
    with pytest.raises(DetectorError, match=model.name):
        BundledDetector(manifest, 0.7)


@pytest.mark.parametrize("network", NETWORKS)
def test_detector_with_a_model_of_another_kind_is_an_error(manifest: Path, network: str) -> None:
    member = read_bundle(bundled_models()).members[0]
    shutil.copy(bundled_models() / member.file, manifest.parent)
    with_network(manifest, network, file=member.file, sha256=member.sha256)
    with pytest.raises(DetectorError, match=member.file):
        BundledDetector(manifest, 0.7)


def test_detector_with_its_networks_exchanged_is_an_error(manifest: Path) -> None:
    content = json.loads(manifest.read_text())
    altered(manifest, search=content["verifier"], verifier=content["search"])
    with pytest.raises(DetectorError, match="verifier"):
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


class Verifier:
    """Gives the real verifier's answer, or other evidence; counts the patches."""

    def __init__(self, evidence: float | None = None) -> None:
        _, file = read_manifest(bundled_detector()).files_in(bundled_models())
        self._real = VerifierNetwork(file, threads=1)
        self._evidence = evidence
        self.number = 0

    def predict(self, patch: Image) -> tuple[float, np.ndarray]:
        self.number += 1
        evidence, geometry = self._real.predict(patch)
        return evidence if self._evidence is None else self._evidence, geometry


@pytest.fixture
def search() -> FaceSearch:
    return FaceSearch(*read_manifest(bundled_detector()).files_in(bundled_models()), threads=1)


def grey_scene(*faces: tuple[int, int, int], size: tuple[int, int] = (320, 240)) -> Image:
    return np.asarray(cv2.cvtColor(draw_scene(*faces, size=size), cv2.COLOR_BGR2GRAY), np.uint8)


def test_crowd_has_a_limited_number_of_verifications(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = Verifier()
    monkeypatch.setattr(search, "_verifier", verifier)
    crowd = [(40 * x + 4, 40 * y + 4, 32) for x in range(5) for y in range(5)]
    found = search.faces(grey_scene(*crowd, size=(208, 208)), 0.5)
    assert verifier.number == MAX_VERIFICATIONS
    assert len(found) == len(crowd)


def test_face_that_the_verifier_cannot_reject_is_not_verified(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = grey_scene((100, 80, 36))
    monkeypatch.setattr(search, "_verifier", Verifier(-99.0))
    found, rejected = (search.faces(scene, 0.01, score)[0] for score in (0.3, 1.0))
    assert rejected.score == pytest.approx(with_evidence(found.score, -MAX_EVIDENCE), abs=1e-6)
    assert rejected.score >= 0.3


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
    assert np.abs(second.landmarks - first.landmarks).max() < 4.0


@pytest.mark.parametrize("evidence", [-99.0, 99.0])
def test_verifier_moves_a_score_by_a_limited_amount(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch, evidence: float
) -> None:
    scene = grey_scene((100, 80, 24))
    with monkeypatch.context() as without:
        without.setattr(bundled, "MAX_VERIFICATIONS", 0)
        (first,) = search.faces(scene, 0.1)
    monkeypatch.setattr(search, "_verifier", Verifier(evidence))
    second = search.faces(scene, 0.01)[0]
    limit = np.copysign(MAX_EVIDENCE, evidence)
    assert second.score == pytest.approx(with_evidence(first.score, limit), abs=1e-6)


@pytest.mark.parametrize(("side", "is_verified"), [(36, True), (90, False)])
def test_only_small_faces_are_verified(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch, side: int, *, is_verified: bool
) -> None:
    scores = []
    for evidence in (-99.0, 99.0):
        monkeypatch.setattr(search, "_verifier", Verifier(evidence))
        scores.append(search.faces(grey_scene((100, 60, side)), 0.01)[0].score)
    assert (scores[0] < scores[1]) is is_verified


def test_verifier_raises_a_face_below_the_minimum(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = grey_scene((100, 80, 24))
    with monkeypatch.context() as without:
        without.setattr(bundled, "MAX_VERIFICATIONS", 0)
        (first,) = search.faces(scene, 0.1)
        above = with_evidence(first.score, 0.5)
        assert search.faces(scene, above) == []
    monkeypatch.setattr(search, "_verifier", Verifier(99.0))
    assert len(search.faces(scene, above)) == 1


def test_place_in_a_patch_is_that_in_the_picture() -> None:
    box = Box(40.0, 30.0, 20.0, 30.0)
    shift, shape = np.array([0.1, -0.2]), np.log([0.6, 0.9])
    landmarks = np.arange(10) / 10 - 0.5
    found, marks = decode_geometry(np.float32([*shift, *shape, *landmarks]), box)
    assert found.centre == pytest.approx((53.0, 39.0), abs=1e-4)
    assert (found.width, found.height) == pytest.approx((18.0, 27.0), abs=1e-4)
    np.testing.assert_allclose(marks[0], [35.0, 33.0], atol=1e-4)
    np.testing.assert_allclose(marks[4], [59.0, 57.0], atol=1e-4)


def test_patch_has_the_box_in_its_middle() -> None:
    picture = np.zeros((120, 160), np.uint8)
    picture[40:72, 60:84] = 200
    patch = cut_patch(picture, Box(60.0, 40.0, 24.0, 32.0))
    rows, columns = np.nonzero(patch > 100)
    middle = (patch.shape[0] - 1) / 2
    assert (rows.min() + rows.max()) / 2 == pytest.approx(middle, abs=0.6)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(middle, abs=0.6)
