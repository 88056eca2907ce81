from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from edge_daemon.records import EMOTIONS
from emotion_trainer.data import Dataset, Split
from emotion_trainer.evaluation.metrics import (
    WithoutCopies,
    confuse,
    measure,
    measure_without_copies,
    report,
)

# Each emotion once, fear taken for surprise, and one more happy face.
LABELS = np.array([0, 1, 2, 3, 4, 5, 6, 3])
PREDICTIONS = np.array([0, 1, 5, 3, 4, 5, 6, 3])
PROBABILITIES = np.eye(7, dtype=np.float32)[PREDICTIONS]


def test_measure_counts_accuracy_recall_and_calibration() -> None:
    metrics = measure(PROBABILITIES, LABELS, "val")
    assert metrics.accuracy == 7 / 8
    assert metrics.recall == {name: 0.0 if name == "fear" else 1.0 for name in EMOTIONS}
    assert metrics.calibration_error == 1 / 8
    assert metrics.split == "val"


def test_measure_absent_emotion_has_no_recall() -> None:
    assert measure(PROBABILITIES[:3], LABELS[:3], "val").recall["neutral"] == 0.0


def test_confusion_has_a_row_for_each_label() -> None:
    matrix = confuse(PROBABILITIES, LABELS)
    assert matrix[2, 5] == 1
    assert matrix[3, 3] == 2
    assert matrix.sum() == len(LABELS)


def test_report_has_the_confusion_matrix_and_recalls() -> None:
    lines = report(PROBABILITIES, dataset_of(known=())).splitlines()
    assert "0.8750" in lines[0]
    assert "| fear | 0 | 0 | 0 | 0 | 0 | 1 | 0 | 0.000 |" in lines


def test_measure_without_copies_leaves_them_out() -> None:
    # One of the two known faces is fear taken for surprise.
    found = measure_without_copies(PROBABILITIES, dataset_of(known=(2, 3)))
    assert found == WithoutCopies(2, 2, accuracy=1.0, calibration_error=0.0)
    assert "1.0000" in report(PROBABILITIES, dataset_of(known=(2, 3))).splitlines()[1]


def test_measure_without_copies_of_copies_alone_has_no_figures() -> None:
    dataset = dataset_of(known=range(8))
    assert measure_without_copies(PROBABILITIES, dataset) == WithoutCopies(8, 8, None, None)
    assert report(PROBABILITIES, dataset)


def test_report_names_what_it_was_measured_on() -> None:
    dataset = replace(dataset_of(known=()), validation_name="val")
    assert report(PROBABILITIES, dataset).startswith("val, 8 ")


def dataset_of(known: Iterable[int]) -> Dataset:
    """A plain image for each of `LABELS` to validate on, and to learn from those of `known`."""
    images = np.stack([np.full((48, 48), grey, np.uint8) for grey in range(8)])
    trained = np.stack([np.full((48, 48), 99, np.uint8), *(images[index] for index in known)])
    return Dataset(
        training=Split(
            trained, np.zeros(len(trained), np.int64), votes=np.zeros((1, 10), np.uint8)
        ),
        validation=Split(images, LABELS, votes=np.zeros((8, 10), np.uint8)),
    )
