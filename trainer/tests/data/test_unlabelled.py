from pathlib import Path

import numpy as np
import pytest
from conftest import draw_split, write_unlabelled

from emotion_trainer.data.unlabelled import load_unlabelled
from emotion_trainer.errors import DataError


def test_load_unlabelled_sheets_gives_the_faces_in_order(tmp_path: Path) -> None:
    faces = draw_split(30, seed=5).images
    write_unlabelled(faces, tmp_path)
    np.testing.assert_array_equal(load_unlabelled(tmp_path), faces)


@pytest.mark.parametrize("count", ["", "{}", '{"faces": 0}', '{"faces": 2305}'])
def test_load_unlabelled_wrong_count_is_refused(count: str, tmp_path: Path) -> None:
    write_unlabelled(draw_split(3, seed=5).images, tmp_path)
    (tmp_path / "count.json").write_text(count)
    with pytest.raises(DataError):
        load_unlabelled(tmp_path)


def test_load_unlabelled_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"count\.json: "):
        load_unlabelled(tmp_path / "absent")
