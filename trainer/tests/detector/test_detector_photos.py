import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detector.material import write_photos

from emotion_trainer.detector.photos import MAX_SIDE, load_photos, part_of, read_labels
from emotion_trainer.errors import DataError


def test_photos_are_divided_by_their_names(tmp_path: Path) -> None:
    write_photos(tmp_path)
    photos = load_photos([tmp_path])
    parts = Counter(part_of(f"photo_{number:03}.png") for number in range(60))
    assert {name: len(getattr(photos, name)) for name in parts} == parts
    assert all(np.isfinite(photo.faces.landmarks[0]).all() for photo in photos.training)


def test_photos_of_two_folders_are_read_together(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_photos(tmp_path / name)
    alone = load_photos([tmp_path / "one"])
    both = load_photos([tmp_path / "one", tmp_path / "two"])
    assert len(both.training) == 2 * len(alone.training)


def test_part_of_names_has_the_intended_shares() -> None:
    counts = Counter(part_of(f"{number}.jpg") for number in range(4000))
    assert counts["test"] / 4000 == pytest.approx(0.15, abs=0.02)
    assert counts["calibration"] / 4000 == pytest.approx(0.05, abs=0.02)


def test_labels_with_ignored_boxes_give_doubtful_faces(tmp_path: Path) -> None:
    write_photos(tmp_path, count=1)
    ((_, faces),) = read_labels(tmp_path)
    assert faces.doubtful.tolist() == [False, True]
    assert faces.boxes[1].tolist() == [220, 160, 15, 18]


def test_photos_above_the_limit_are_reduced_with_their_faces(tmp_path: Path) -> None:
    write_photos(tmp_path)
    plain = load_photos([tmp_path]).training[0]
    labels = json.loads((tmp_path / "labels.json").read_text())
    for photo in labels:
        image = cv2.imread(str(tmp_path / photo["file"]))
        cv2.imwrite(str(tmp_path / photo["file"]), cv2.resize(image, (960, 720)))
        for face in photo["faces"]:
            face["box"] = [4 * value for value in face["box"]]
            face["landmarks"] = None
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    reduced = load_photos([tmp_path]).training[0]
    assert reduced.image.shape == (MAX_SIDE * 3 // 4, MAX_SIDE)
    np.testing.assert_allclose(
        reduced.faces.boxes[0], MAX_SIDE / 240 * plain.faces.boxes[0], rtol=1e-4
    )
    assert np.isnan(reduced.faces.landmarks).all()


def moved(photo: dict[str, Any]) -> None:
    photo["faces"][0]["box"][0] += 1


def without_landmarks(photo: dict[str, Any]) -> None:
    del photo["faces"][0]["landmarks"]


def ignored(photo: dict[str, Any]) -> None:
    photo["ignore"] = [photo["faces"].pop()["box"], *photo["ignore"]]


@pytest.mark.parametrize("change", [moved, without_landmarks, ignored])
def test_photos_with_changed_labels_have_another_fingerprint(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    write_photos(tmp_path)
    before = load_photos([tmp_path]).fingerprint
    labels = json.loads((tmp_path / "labels.json").read_text())
    change(labels[0])
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    assert load_photos([tmp_path]).fingerprint != before


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "labels.json"),
        ("{", "labels.json"),
        ('[{"file": "a.jpg", "faces": [{"box": [1, 2]}]}]', "labels.json"),
        ('[{"file": "a.jpg", "faces": [{"box": [1, 2, 0, 5]}]}]', "labels.json"),
        ('[{"file": "absent.jpg", "faces": []}]', "absent.jpg"),
        ("[]", "training"),
    ],
)
def test_photos_that_cannot_be_read_are_an_error(
    tmp_path: Path, content: str | None, word: str
) -> None:
    if content is not None:
        (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match=word):
        load_photos([tmp_path])
