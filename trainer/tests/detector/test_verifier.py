"""The verifier: the candidates that it learns from, and its two definitions."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from detector.material import faces_at, landmarks_in, photo

pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)

import torch

from edge_daemon.detection.bundled import PATCH_SIDE, decode_geometry
from edge_daemon.detection.decoding import GEOMETRY
from edge_daemon.records import Box, Detection, Image
from emotion_trainer.detector import network
from emotion_trainer.detector.candidates import (
    Candidates,
    candidates_in,
    collect,
    encode_geometry,
    match,
    verified_precision,
)
from emotion_trainer.detector.faces import Finder, LabelledImage, concatenate_faces
from emotion_trainer.detector.network_torch import VerifierNetwork, transfer
from emotion_trainer.detector.recipe import VerifierSettings
from emotion_trainer.detector.verifier_training import batches

torch.set_num_threads(1)

SMALL = VerifierSettings(stem=8, stages=((16, 1), (24, 1), (24, 1)), geometry=4)
FACE = (60.0, 40.0, 40.0, 48.0)
BACKGROUND = (10.0, 100.0, 30.0, 36.0)


def search_for(*boxes: tuple[float, float, float, float]) -> Finder:
    """A search that finds these boxes in every image, with falling scores."""

    def find(images: Sequence[Image]) -> list[list[Detection]]:
        found = [Detection(Box(*box), 0.9 - 0.1 * n) for n, box in enumerate(boxes)]
        return [found for _ in images]

    return find


def picture(*faces: tuple[float, float, float, float]) -> LabelledImage:
    return LabelledImage(
        np.zeros((180, 240), np.uint8), faces_at(*faces) if faces else concatenate_faces([])
    )


@pytest.mark.parametrize(
    ("box", "owner", "is_background"),
    [
        (FACE, 1, False),
        ((64.0, 44.0, 40.0, 48.0), 1, False),
        ((75.0, 52.0, 40.0, 48.0), -1, False),  # too close to the face
        (BACKGROUND, -1, True),
    ],
)
def test_candidate_is_a_face_or_background_or_neither(
    box: tuple[float, ...], owner: int, is_background: bool
) -> None:
    boxes = np.array([box], np.float32)
    found = match(boxes, picture((150.0, 10.0, 30.0, 36.0), FACE))
    assert (found[0].tolist(), found[1].tolist()) == ([owner], [is_background])


def test_candidate_in_a_doubtful_face_is_neither() -> None:
    photo = picture((150.0, 10.0, 30.0, 36.0), FACE)
    doubtful = replace(photo.faces, doubtful=np.array([False, True]))
    boxes = np.array([FACE, (75.0, 55.0, 10.0, 12.0)], np.float32)
    owner, is_background = match(boxes, replace(photo, faces=doubtful))
    assert owner.tolist() == [-1, -1]
    assert not is_background.any()


def test_small_candidate_in_a_close_up_is_no_background() -> None:
    close_up = picture((40.0, 10.0, 120.0, 150.0))
    boxes = np.array([(200.0, 10.0, 20.0, 24.0), (190.0, 90.0, 48.0, 60.0)], np.float32)
    assert match(boxes, close_up)[1].tolist() == [False, True]


def test_candidates_in_a_photo_without_faces_are_background() -> None:
    assert match(np.array([BACKGROUND], np.float32), picture())[1].all()


def test_encoded_geometry_is_the_inverse_of_the_daemon() -> None:
    box, face = Box(50.0, 40.0, 30.0, 40.0), (55.0, 36.0, 28.0, 42.0)
    targets = encode_geometry(box, np.array(face, np.float32), landmarks_in(face))
    found, landmarks = decode_geometry(targets, box)
    assert tuple(found) == pytest.approx(face, abs=1e-3)
    np.testing.assert_allclose(landmarks, landmarks_in(face), atol=1e-3)


def test_collection_adds_the_faces_that_the_search_misses() -> None:
    photos = [photo(seed) for seed in range(8)]
    found = collect(search_for(), photos, np.random.default_rng(0))
    assert found.is_face.all()
    assert len(found) == len(photos)
    assert found.patches.shape[1:] == (PATCH_SIDE, PATCH_SIDE)
    assert not found.scores.any()
    # The box is moved and resized a little, so the face is near the middle of its patch.
    assert 0 < np.abs(found.geometry[:, :2]).max() < 0.5


def test_candidates_of_validation_are_those_of_the_search_alone() -> None:
    found = candidates_in(search_for(BACKGROUND), [picture(FACE)])
    assert found.is_face.tolist() == [False]
    assert np.isnan(found.geometry).all()
    assert found.scores == pytest.approx([0.9])


def test_photos_are_collected_at_many_sizes() -> None:
    sizes = []

    def find(images: Sequence[Image]) -> list[list[Detection]]:
        sizes.append(images[0].shape[0])
        return [[]]

    collect(find, [photo(1)] * 30, np.random.default_rng(0))
    assert max(sizes) > 3 * min(sizes)


def candidates(scores: Sequence[float], faces: int) -> Candidates:
    count = len(scores)
    return Candidates(
        np.zeros((count, PATCH_SIDE, PATCH_SIDE), np.uint8),
        np.array(scores, np.float32),
        np.arange(count) < faces,
        np.full((count, GEOMETRY), np.nan, np.float32),
    )


def test_batches_prefer_certain_background() -> None:
    material = candidates([0.0, 0.9, 0.9, 0.0], faces=2)
    chosen = np.stack([*batches(material, 50, 40, np.random.default_rng(0))])
    assert chosen.shape == (40, 50)
    assert ((chosen < 2).sum(axis=1) == 20).all()
    assert 2 < (chosen == 2).sum() / (chosen == 3).sum() < 5


def test_evidence_raises_the_average_precision() -> None:
    material = candidates([0.3, 0.4, 0.6, 0.5], faces=2)
    without = verified_precision(material, np.zeros(4, np.float32))
    assert verified_precision(material, np.float32([1, 1, -1, -1])) == 1 > without


def test_both_definitions_compute_the_same() -> None:
    torch.manual_seed(0)
    verifier = VerifierNetwork(SMALL).train()
    patches = np.random.default_rng(0).integers(0, 256, (16, PATCH_SIDE, PATCH_SIDE, 1))
    tensor = torch.from_numpy(patches.astype(np.float32)).permute(0, 3, 1, 2)
    verifier(tensor)  # normalisation gets statistics
    verifier.eval()
    model = network.build_verifier(SMALL)
    transfer(verifier, model)
    evidence, geometry = (np.asarray(part) for part in model.predict(patches, verbose=0))
    with torch.no_grad():
        expected_evidence, expected_geometry = verifier(tensor)
    np.testing.assert_allclose(evidence[:, 0], expected_evidence, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(geometry, expected_geometry, rtol=1e-3, atol=1e-4)
