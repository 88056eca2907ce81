from pathlib import Path

import numpy as np
import pytest
from detector.material import crops, landmarks_in

from edge_daemon.detection import Framing
from edge_daemon.records import Box, Detection, Image
from emotion_trainer.cli import main
from emotion_trainer.detector.crops import (
    ENLARGEMENT,
    MARGIN,
    WIDENING,
    label_crops,
    load_crops,
    save_crops,
)
from emotion_trainer.errors import DataError

BOX = (8.0, 4.0, 30.0, 40.0)


class Teacher:
    """Is certain of a face only in bright crops."""

    name = "teacher"
    framing = Framing(x=0, y=0, width=1, height=1)
    start_score = 0.0

    def detect(self, bgr: Image) -> list[Detection]:
        assert bgr.shape == (48 * ENLARGEMENT + 2 * MARGIN, 48 * ENLARGEMENT + 2 * MARGIN, 3)
        x, y, w, h = (ENLARGEMENT * value for value in BOX)
        box = (MARGIN + x, MARGIN + y, w, h)
        return [Detection(Box(*box), bgr.mean() / 255, landmarks_in(box))]


def test_label_crops_gives_boxes_in_crop_pixels() -> None:
    images = np.full((3, 48, 48), 250, np.uint8)
    images[1] = 20
    labelled = label_crops(images, Teacher())
    assert len(labelled) == 2
    x, y, w, h = labelled.boxes[0]
    assert (x + w / 2, y + h / 2) == pytest.approx((23, 24))
    assert (w, h) == pytest.approx((WIDENING[0] * 30, WIDENING[1] * 40))
    np.testing.assert_allclose(labelled.landmarks[0], landmarks_in(BOX), atol=1e-4)


def test_label_crops_shuffles_data_that_are_sorted() -> None:
    images = np.full((40, 48, 48), 250, np.uint8)
    images[20:] = 200
    _, held_out = label_crops(images, Teacher()).divided()
    assert set(held_out.images[:, 0, 0].tolist()) == {250, 200}


def test_label_crops_without_any_face_is_an_error() -> None:
    with pytest.raises(DataError, match="no face"):
        label_crops(np.zeros((3, 48, 48), np.uint8), Teacher())


def test_load_crops_reads_saved_crops(tmp_path: Path) -> None:
    save_crops(crops(), tmp_path / "crops.npz")
    again = load_crops(tmp_path / "crops.npz")
    assert again.fingerprint == crops().fingerprint
    kept, held_out = again.divided()
    assert (len(kept), len(held_out)) == (36, 4)


def test_label_writes_to_a_missing_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.detection.yunet.YuNetDetector", lambda *_: Teacher())
    out = tmp_path / "new" / "crops.npz"
    words = ["detector", "label", "--data", str(place / "sheets"), "--teacher", str(place)]
    monkeypatch.setattr("emotion_trainer.detector.crops.label_crops", lambda *_: crops())
    assert main([*words, "--out", str(out)]) == 0
    assert len(load_crops(out)) == len(crops())


@pytest.mark.parametrize("content", [None, b"", b"PK"])
def test_load_crops_of_a_damaged_file_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "crops.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"crops\.npz"):
        load_crops(path)


@pytest.mark.parametrize(
    "change",
    [
        {"images": np.zeros((40, 48, 40), np.uint8)},
        {"boxes": np.zeros((39, 4), np.float32)},
        {"landmarks": np.full((40, 5, 2), np.nan, np.float32)},
        {"boxs": np.zeros(1)},
    ],
)
def test_load_crops_of_another_layout_is_an_error(
    tmp_path: Path, change: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "crops.npz"
    np.savez(path, **{**vars(crops()), **change})
    with pytest.raises(DataError, match=rf"crops\.npz: .*\b{next(iter(change))}\b"):
        load_crops(path)
