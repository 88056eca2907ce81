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
    (labels,) = read_labels(tmp_path)
    faces = labels.faces
    assert faces.doubtful.tolist() == [False, True]
    assert faces.boxes[1].tolist() == [220, 160, 15, 18]


def test_photos_above_the_limit_are_reduced_with_their_faces(tmp_path: Path) -> None:
    write_photos(tmp_path)
    plain = load_photos([tmp_path]).training[0]
    labels = json.loads((tmp_path / "labels.json").read_text())
    for photo in labels:
        image = cv2.imread(str(tmp_path / photo["file"]))
        cv2.imwrite(str(tmp_path / photo["file"]), cv2.resize(image, (960, 720)))
        photo.update(width=960, height=720)
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


def change_labels(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    path = folder / "labels.json"
    labels = json.loads(path.read_text())
    change(labels)
    path.write_text(json.dumps(labels))


def test_photos_of_one_source_are_in_one_part(tmp_path: Path) -> None:
    write_photos(tmp_path)
    before = load_photos([tmp_path])
    source = next(name for name in map(str, range(99)) if part_of(name) == "test")

    def add_source(labels: list[dict[str, Any]]) -> None:
        for photo in labels[:20]:
            photo["source"] = source

    change_labels(tmp_path, add_source)
    labels = read_labels(tmp_path)
    assert {one.part for one in labels[:20]} == {"test"}
    assert len({one.part for one in labels[20:]}) == 3
    assert load_photos([tmp_path]).fingerprint != before.fingerprint


def test_training_photos_near_a_test_photo_are_left_out(tmp_path: Path) -> None:
    write_photos(tmp_path)
    before = load_photos([tmp_path])
    assert before.copies == 0
    unseen = next(one.name for one in read_labels(tmp_path) if one.part == "test")
    test = cv2.imread(str(tmp_path / unseen))
    name = next(name for n in range(99) if part_of(name := f"{n}.png") == "training")
    cv2.imwrite(str(tmp_path / name), cv2.resize(test, (480, 360)))
    change_labels(tmp_path, lambda labels: labels.append({"file": name, "faces": []}))
    after = load_photos([tmp_path])
    assert after.copies == 1
    assert len(after.training) == len(before.training)
    assert after.fingerprint == before.fingerprint


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
        ('[{"file": "a.jpg", "faces": [{"box": [1, 2, 4, 5], "landmark": []}]}]', "'landmarks'"),
        ('[{"file": "a.jpg", "faces": [], "ignored": []}]', "'ignore'"),
        ('[{"file": "a.jpg", "faces": []}, {"file": "a.jpg", "faces": []}]', "a.jpg"),
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


def test_photos_of_another_size_than_labelled_are_refused(tmp_path: Path) -> None:
    write_photos(tmp_path)
    change_labels(tmp_path, lambda labels: labels[3].update(width=480, height=360))
    with pytest.raises(DataError, match=r"photo_003\.png: .*\(got 240x180, labelled 480x360\)"):
        load_photos([tmp_path])
