import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import draw_face

from benchmarks import anytime, public_test
from edge_daemon import EmotionEnsemble
from edge_daemon._lib.files import bundled_models
from edge_daemon.errors import SourceError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sheet of 2x30 drawn faces, each on a background of its own."""
    folder = tmp_path_factory.mktemp("data")
    faces = np.stack([draw_face(48, background=3 * number) for number in range(60)])
    sheet = faces.reshape(2, 30, 48, 48).swapaxes(1, 2).reshape(96, 1440)
    cv2.imwrite(str(folder / "publictest_00.png"), sheet)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sheet", "cell", "emotion"])
        rows.writerow(["training_00.png", 0, 0])
        rows.writerows(["publictest_00.png", number, number % 7] for number in range(60))
    return folder


def test_split_is_read_from_its_sheets(data: Path) -> None:
    faces, emotions = public_test.load(data)
    assert (faces[45] == draw_face(48, background=135)).all()
    assert emotions.tolist() == [number % 7 for number in range(60)]


def test_folder_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no FER2013"):
        public_test.load(tmp_path)


def test_accuracy_is_that_of_the_daemons_ensemble(data: Path) -> None:
    measured = anytime.measure(bundled_models(), data, rounds=1)
    faces, emotions = public_test.load(data)
    ensemble = EmotionEnsemble.load()
    assert [point.members for point in measured.members] == list(range(1, len(ensemble) + 1))
    for point in measured.members:
        answers = ensemble.predict(faces, point.members).argmax(axis=1)
        assert point.accuracy == pytest.approx((answers == emotions).mean(), abs=1e-4)
    costs = [point.mmac for point in measured.members]
    assert costs == sorted(costs)
    assert measured.budgets[0].members < len(ensemble)
