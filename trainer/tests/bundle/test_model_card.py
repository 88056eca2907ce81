import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_sheets

from edge_daemon.inference.bundle import read_bundle
from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.bundling import Bundled, make_bundle
from emotion_trainer.bundle.candidates import TrainedModel
from emotion_trainer.bundle.model_card import model_card, most_confused, weakest
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset, Split
from emotion_trainer.data.splitting import STRATIFIED_NAME
from emotion_trainer.models.families import imagenet
from emotion_trainer.training.runs import Run

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
    found = most_confused(confusion)
    assert (found.first, found.second) == ("sad", "neutral")
    assert (found.first_as_second, found.second_as_first) == (0.2, 0.1)


@pytest.fixture(scope="module")
def bundled(place: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    """What the card is made from."""
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle([TrainedModel(Run(place / "run"))], dataset, folder, lambda *_: "")


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
    rows = re.findall(r"^\| (\w+) \|((?: \d+ \|){7}) ([\d.]+) \|", card, re.MULTILINE)
    assert [row[0] for row in rows] == list(EMOTIONS)
    assert [float(row[2]) for row in rows] == pytest.approx(
        list(ensemble.metrics.recall.values()), abs=6e-4
    )
    assert max(map(len, (line for line in card.splitlines() if "|" not in line))) <= 100


def test_what_balancing_changed_is_told(bundled: Bundled, dataset: Dataset) -> None:
    ensemble, unbalanced = bundled.bundle.ensemble, bundled.unbalanced
    assert ensemble.adjustment["fear"] > 0
    card = " ".join(model_card(bundled, dataset).split())
    assert f"fear's by {ensemble.adjustment['fear']:.2f}" in card
    assert f"| {ensemble.metrics.recall['fear']:.3f} | {unbalanced.recall['fear']:.3f} |" in card
    points = 100 * (unbalanced.accuracy - ensemble.metrics.accuracy)
    assert f"the accuracy is {unbalanced.accuracy:.4f} and the calibration error" in card
    assert (f"it costs {points:.2f} points of accuracy" in card) == (points > 0)


def test_where_nothing_was_balanced_nothing_is_told(bundled: Bundled, dataset: Dataset) -> None:
    ensemble = bundled.bundle.ensemble.model_copy(update={"adjustment": {}})
    manifest = bundled.bundle.model_copy(update={"ensemble": ensemble})
    card = model_card(replace(bundled, bundle=manifest), dataset)
    assert "adjust" not in card
    assert "| neutral | recall |\n" in card
    assert "\n\n\n" not in card


def test_only_fer2013_is_called_so(bundled: Bundled, dataset: Dataset) -> None:
    own = replace(dataset, validation_name=STRATIFIED_NAME)
    card = model_card(bundled, own)
    assert "Goodfellow" in model_card(bundled, dataset)
    assert "Goodfellow" not in card
    assert f'140 that are called "{STRATIFIED_NAME}" here' in " ".join(card.split())
    assert "evaluate ../models --data PATH --split stratified\n" in card
    assert f"| {STRATIFIED_NAME}, answers | 140 |" in card


def test_weights_of_others_are_told(bundled: Bundled, dataset: Dataset) -> None:
    model = imagenet.Settings(family="imagenet", application="VGG16", weights=Path("vgg16.h5"))
    record = bundled.records[0]
    recipe = record.recipe.model_copy(update={"model": model})
    pretrained = replace(bundled, records=(record.model_copy(update={"recipe": recipe}),))
    assert "no weights of others were used" in " ".join(model_card(bundled, dataset).split())
    card = " ".join(model_card(pretrained, dataset).split())
    assert "The weights of tiny started from what the same network had learnt on ImageNet" in card
    assert "no weights of others" not in card


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
    with_votes = bundle(place, place / "sheets", tmp_path / "out")
    without = bundle(place, tmp_path / "sheets", tmp_path / "out")
    for told in ("annotators", "The votes of FER+"):
        assert told in with_votes
        assert told not in without


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
