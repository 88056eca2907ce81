from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_daemon.records import Box, Detection, Image
from emotion_trainer.detector.export import FALSE_POSITIVE_RATE, calibrated_scores
from emotion_trainer.detector.faces import Finder, LabelledImage, concatenate_faces

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
