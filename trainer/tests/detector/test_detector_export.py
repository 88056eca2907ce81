from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_daemon.detection.bundled import PATCH_SIDE
from edge_daemon.records import Box, Detection, Image
from emotion_trainer.detector import network
from emotion_trainer.detector.export import FALSE_POSITIVE_RATE, calibrated_scores, weigh_evidence
from emotion_trainer.detector.faces import Finder, LabelledImage, concatenate_faces
from emotion_trainer.detector.recipe import VerifierSettings

IMAGES = 1000


def test_calibrated_scores_leave_the_allowed_false_positives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = np.random.default_rng(0).uniform(0.1, 1.0, (3, IMAGES))
    images = [np.full((1, 1), 0, np.uint8) for _ in range(IMAGES)]
    numbers = {id(image): number for number, image in enumerate(images)}

    def finder_of(_path: Path, levels: Collection[int]) -> Finder:
        (level,) = levels

        def find(found_in: Sequence[Image]) -> list[list[Detection]]:
            return [
                [Detection(Box(0, 0, 1, 1), scores[level, numbers[id(image)]])]
                for image in found_in
            ]

        return find

    monkeypatch.setattr("emotion_trainer.detector.export.tflite_finder", finder_of)
    monkeypatch.setattr("emotion_trainer.detector.export.MAX_SCORE", 1.0)
    least = calibrated_scores(
        Path(), [LabelledImage(image, concatenate_faces([])) for image in images]
    )
    wrong = [(scores[level] >= least[level]).sum() for level in range(3)]
    assert sum(wrong) == pytest.approx(FALSE_POSITIVE_RATE * IMAGES, abs=1.5)
    assert len(set(wrong)) == 1


def test_weighed_evidence_has_offset_and_the_same_geometry() -> None:
    settings = VerifierSettings(stages=((8, 1), (8, 1), (8, 1)), weight=0.5, offset=-0.3)
    model = network.build_verifier(settings)
    patches = np.random.default_rng(0).integers(0, 256, (4, PATCH_SIDE, PATCH_SIDE, 1), np.uint8)
    evidence, geometry = model.predict(patches, verbose=0)
    weigh_evidence(model, settings)
    weighed, same = model.predict(patches, verbose=0)
    np.testing.assert_allclose(weighed, 0.5 * evidence - 0.3, atol=1e-5)
    np.testing.assert_array_equal(same, geometry)
