import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_sheets

from edge_daemon.emotions import EMOTIONS
from edge_daemon.inference.bundle import read_bundle
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset, Split
from emotion_trainer.model_card import most_mixed_up, weakest

ANGRY, DISGUST, FEAR, SAD, NEUTRAL = (
    EMOTIONS.index(name) for name in ("angry", "disgust", "fear", "sad", "neutral")
)


@pytest.fixture
def confusion() -> np.ndarray:
    """A hundred faces of each, all right but for what is set here."""
    matrix = np.eye(len(EMOTIONS), dtype=np.int64) * 100
    matrix[DISGUST, [DISGUST, ANGRY]] = 30, 70
    matrix[FEAR, [FEAR, SAD, ANGRY]] = 50, 30, 20
    matrix[SAD, [SAD, NEUTRAL]] = 80, 20
    matrix[NEUTRAL, [NEUTRAL, SAD]] = 90, 10
    return matrix


def test_the_weakest_come_first_with_what_they_are_taken_for(confusion: np.ndarray) -> None:
    first, second = weakest(confusion)
    assert (first.label, first.recall, first.taken_for) == ("disgust", 0.3, "angry")
    assert (second.label, second.recall, second.taken_for) == ("fear", 0.5, "sad")


def test_a_mix_up_goes_both_ways(confusion: np.ndarray) -> None:
    found = most_mixed_up(confusion)
    assert (found.first, found.second) == ("sad", "neutral")
    assert (found.first_as_second, found.second_as_first) == (0.2, 0.1)


def bundle(place: Path, sheets: Path, out: Path, *more: str) -> str:
    arguments = ["bundle", str(place / "run"), "--out", str(out), "--data", str(sheets), *more]
    assert main(arguments) == 0
    return (out / "README.md").read_text(encoding="utf-8")


def test_the_card_tells_what_the_manifest_tells(place: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("of the bundle before")
    card = bundle(place, place / "sheets", tmp_path)
    manifest = read_bundle(tmp_path)
    member, ensemble = manifest.members[0], manifest.ensemble
    assert f"The ensemble: accuracy {ensemble.metrics.accuracy:.4f}, expected" in card
    assert f"| `tiny_int8.tflite` | resnet, int8 | {member.mmac:.2f} |" in card
    assert "| `tiny` | 3 |" in card
    assert "Training, 448 faces" in card
    assert "in a share of 30 %" in card
    assert "of the bundle before" not in card
    rows = re.findall(r"^\| (\w+) \|((?: \d+ \|){7}) ([\d.]+) \|$", card, re.MULTILINE)
    assert [row[0] for row in rows] == list(EMOTIONS)
    assert [float(row[2]) for row in rows] == pytest.approx(
        list(ensemble.metrics.recall.values()), abs=6e-4
    )
    assert max(map(len, (line for line in card.splitlines() if "|" not in line))) <= 100


def test_faces_that_are_in_training_too_are_told(
    place: Path, dataset: Dataset, tmp_path: Path
) -> None:
    images = dataset.validation.images.copy()
    images[:14] = dataset.training.images[:14]
    twins = replace(dataset, validation=replace(dataset.validation, images=images))
    write_sheets(twins, tmp_path / "sheets")
    card = bundle(place, tmp_path / "sheets", tmp_path / "out")
    assert "14 of PublicTest's faces are, pixel for pixel, in Training too. On the other 126" in (
        " ".join(card.split())
    )


def test_without_votes_the_card_says_nothing_of_annotators(
    place: Path, dataset: Dataset, tmp_path: Path
) -> None:
    def voteless(split: Split) -> Split:
        return replace(split, votes=np.zeros_like(split.votes))

    stripped = replace(
        dataset, training=voteless(dataset.training), validation=voteless(dataset.validation)
    )
    write_sheets(stripped, tmp_path / "sheets")
    assert "annotators" in bundle(place, place / "sheets", tmp_path / "out")
    assert "annotators" not in bundle(place, tmp_path / "sheets", tmp_path / "out")


def test_answers_in_clips_are_told(place: Path, clip: Path, tmp_path: Path) -> None:
    without = bundle(place, place / "sheets", tmp_path)
    assert "`emotion-trainer bundle --clips CLIP.mp4` adds" in " ".join(without.split())
    card = bundle(place, place / "sheets", tmp_path, "--clips", str(clip))
    row = re.search(rf"^\| `{clip.name}` \| 10 \|((?: \d+ % \|){{7}})$", card, re.MULTILINE)
    assert row is not None
    assert sum(map(int, re.findall(r"\d+", row[1]))) == pytest.approx(100, abs=3)


def test_a_bad_clip_leaves_the_bundle_before(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bundle(place, place / "sheets", tmp_path)
    arguments = ["bundle", str(place / "run"), "--out", str(tmp_path)]
    more = ["--data", str(place / "sheets"), "--clips", "absent.mp4"]
    assert main([*arguments, *more]) == 1
    assert "absent.mp4: " in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == before
    assert json.loads((tmp_path / "bundle.json").read_text())
    assert not (tmp_path / ".unfinished").exists()
