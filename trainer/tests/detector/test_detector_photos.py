import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from detector.material import write_photos

from emotion_trainer.detector.photos import is_held_out, load_photos
from emotion_trainer.errors import DataError


def test_reads_photos_and_holds_some_out_by_their_names(tmp_path: Path) -> None:
    write_photos(tmp_path)
    photos = load_photos(tmp_path)
    held_out = sum(is_held_out(f"photo_{number:03}.png") for number in range(60))
    assert 0 < held_out < 20
    assert len(photos.validation) == held_out
    assert len(photos.training) == 60 - held_out
    assert all(len(photo.faces) == 1 for photo in photos.training)
    assert np.isfinite(photos.training[0].faces.landmarks).all()


def test_about_a_tenth_of_all_names_is_held_out() -> None:
    share = np.mean([is_held_out(f"{number}.jpg") for number in range(4000)])
    assert share == pytest.approx(0.1, abs=0.02)


def test_large_photos_are_reduced_with_their_faces(tmp_path: Path) -> None:
    write_photos(tmp_path)
    plain = load_photos(tmp_path).training[0]
    labels = json.loads((tmp_path / "labels.json").read_text())
    for photo in labels:
        image = cv2.imread(str(tmp_path / photo["file"]))
        cv2.imwrite(str(tmp_path / photo["file"]), cv2.resize(image, (960, 720)))
        for face in photo["faces"]:
            face["box"] = [4 * value for value in face["box"]]
            face["landmarks"] = None
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    reduced = load_photos(tmp_path).training[0]
    assert reduced.image.shape == (360, 480)
    np.testing.assert_allclose(reduced.faces.boxes, 2 * plain.faces.boxes, rtol=1e-4)
    assert np.isnan(reduced.faces.landmarks).all()


def test_other_labels_make_another_fingerprint(tmp_path: Path) -> None:
    write_photos(tmp_path)
    before = load_photos(tmp_path).fingerprint
    labels = json.loads((tmp_path / "labels.json").read_text())
    labels[0]["faces"][0]["box"][0] += 1
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    assert load_photos(tmp_path).fingerprint != before


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "labels.json"),
        ("{", "damaged"),
        ('[{"file": "a.jpg", "faces": [{"box": [1, 2]}]}]', "damaged"),
        ('[{"file": "absent.jpg", "faces": []}]', "absent.jpg"),
        ("[]", "too few"),
    ],
)
def test_refuses_what_it_cannot_read(tmp_path: Path, content: str | None, word: str) -> None:
    if content is not None:
        (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match=word):
        load_photos(tmp_path)
