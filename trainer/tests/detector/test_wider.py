from pathlib import Path

import cv2
import numpy as np
import pytest
from detector.material import photo

from emotion_trainer.detector.photos import load_photos
from emotion_trainer.detector.wider import ANNOTATIONS, IMAGES_FOLDER, is_wider, read_labels
from emotion_trainer.errors import DataError

ENTRIES = """0--Parade/a.jpg
3
78 22 38 45 0 0 0 0 2 0
10 20 30 40 2 0 0 0 0 0
50 60 0 12 0 0 0 0 0 0
0--Parade/b.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/c.jpg
1
5 6 7 8 0 0 0 1 1 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ANNOTATIONS).parent.mkdir()
    (tmp_path / ANNOTATIONS).write_text(ENTRIES)
    return tmp_path


def test_labels_have_boxes_and_doubt(folder: Path) -> None:
    assert is_wider(folder)
    labels = dict(read_labels(folder))
    assert list(labels) == [
        str(IMAGES_FOLDER / name)
        for name in ("0--Parade/a.jpg", "0--Parade/b.jpg", "1--Handshaking/c.jpg")
    ]
    first, none, invalid = labels.values()
    np.testing.assert_array_equal(first.boxes, [[78, 22, 38, 45], [10, 20, 30, 40]])
    assert first.doubtful.tolist() == [False, True]
    assert np.isnan(first.landmarks).all()
    assert len(none) == 0
    assert invalid.doubtful.tolist() == [True]


def test_photos_of_wider_face_are_loaded(folder: Path) -> None:
    lines = []
    for number in range(80):
        name = f"0--Parade/{number}.jpg"
        path = folder / IMAGES_FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), photo(number).image)
        lines += [name, "1", "5 6 7 8 0 0 0 0 0 0"]
    (folder / ANNOTATIONS).write_text("\n".join(lines))
    photos = load_photos([folder])
    assert len(photos.training) + len(photos.calibration) + len(photos.test) == 80


@pytest.mark.parametrize("content", ["a.jpg\n", "a.jpg\nmany\n", "a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n"])
def test_labels_in_another_format_are_an_error(folder: Path, content: str) -> None:
    (folder / ANNOTATIONS).write_text(content)
    with pytest.raises(DataError, match=r"a\.jpg"):
        dict(read_labels(folder))
