import numpy as np

from edge_daemon.emotions import EMOTIONS
from emotion_trainer.evaluation import among, confuse, measure, report

# Each emotion once, fear taken for surprise, and one more happy face.
LABELS = np.array([0, 1, 2, 3, 4, 5, 6, 3])
ANSWERS = np.array([0, 1, 5, 3, 4, 5, 6, 3])
PROBABILITIES = np.eye(7, dtype=np.float32)[ANSWERS]


def test_measures() -> None:
    metrics = measure(PROBABILITIES, LABELS)
    assert metrics.accuracy == 7 / 8
    assert metrics.recall == {name: 0.0 if name == "fear" else 1.0 for name in EMOTIONS}
    assert metrics.calibration_error == 1 / 8
    assert metrics.split == "PublicTest"


def test_an_absent_emotion_has_no_recall() -> None:
    assert measure(PROBABILITIES[:3], LABELS[:3]).recall["neutral"] == 0.0


def test_confusion_has_a_row_for_each_label() -> None:
    matrix = confuse(PROBABILITIES, LABELS)
    assert matrix[2, 5] == 1
    assert matrix[3, 3] == 2
    assert matrix.sum() == len(LABELS)


def test_report_is_a_table() -> None:
    lines = report(PROBABILITIES, LABELS).splitlines()
    assert lines[0].startswith("PublicTest, 8 faces: accuracy 0.8750")
    assert "| fear | 0 | 0 | 0 | 0 | 0 | 1 | 0 | 0.000 |" in lines


def test_a_face_is_among_others_only_if_every_pixel_is() -> None:
    others = np.arange(4 * 48 * 48).reshape(4, 48, 48).astype(np.uint8)
    faces = others[[2, 0]].copy()
    faces[1, 47, 47] ^= 1
    assert among(faces, others).tolist() == [True, False]
