import numpy as np
import pytest

from emotion_trainer.detector.pasting import paste, placement


@pytest.mark.parametrize("scale", [0.125, 0.5, 1.0, 2.0])
def test_paste_puts_the_piece_at_the_transformed_place(scale: float) -> None:
    canvas = np.zeros((160, 160), np.uint8)
    piece, mask = np.full((48, 48), 200, np.uint8), np.ones((48, 48), np.float32)
    paste(canvas, piece, mask, placement((24.0, 24.0), scale, 10.0, (81.3, 70.6)))
    rows, columns = np.indices(canvas.shape) + 0.5
    centre = [np.average(axis, weights=canvas) for axis in (columns, rows)]
    assert centre == pytest.approx([81.3, 70.6], abs=0.05)
