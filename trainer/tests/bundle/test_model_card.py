import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_sheets
from pydantic import TypeAdapter

from edge_daemon.inference.bundle import read_bundle
from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.bundling import make_bundle
from emotion_trainer.bundle.candidates import TrainedModel
from emotion_trainer.bundle.figures import Bundled
from emotion_trainer.bundle.model_card import card_files, model_card, most_confused, weakest
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset, Split
from emotion_trainer.data.splitting import STRATIFIED_NAME
from emotion_trainer.evaluation.priors import prior_effects
from emotion_trainer.evaluation.robustness import DEGRADATIONS
from emotion_trainer.models.families import ModelSettings, imagenet
from emotion_trainer.training.runs import Run
from emotion_trainer.training.soft_labels import Teacher

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
    return make_bundle([TrainedModel(Run(place / "run"))], dataset, folder, lambda *_: {})


def bundle(place: Path, sheets: Path, out: Path, *more: str) -> str:
    arguments = ["bundle", str(place / "run"), "--out", str(out), "--data", str(sheets), *more]
    assert main(arguments) == 0
    return card_in(out)


@pytest.fixture(scope="module")
def written(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle, written over another card."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "README.md").write_text("of the bundle before")
    bundle(place, place / "sheets", folder)
    return folder


def card_in(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_card_has_the_figures_of_the_manifest(written: Path) -> None:
    card = card_in(written)
    manifest = read_bundle(written)
    member, ensemble = manifest.members[0], manifest.ensemble
    assert f"The ensemble: accuracy {ensemble.metrics.accuracy:.4f}, expected" in card
    assert f"| `tiny_int8.tflite` | resnet, int8 | {member.mmac:.2f} |" in card
    assert "| `tiny` | 3 |" in card
    text = " ".join(card.split())
    assert "Training, 448 faces" in text
    assert "in a share of 30 %" in text
    assert "of the bundle before" not in card
    rows = re.findall(r"^\| (\w+) \|((?: \d+ \|){7}) ([\d.]+) \|", card, re.MULTILINE)
    assert [row[0] for row in rows] == list(EMOTIONS)
    assert [float(row[2]) for row in rows] == pytest.approx(
        list(ensemble.metrics.recall.values()), abs=6e-4
    )
    assert max(map(len, (line for line in card.splitlines() if "|" not in line))) <= 100


def test_card_states_the_effect_of_balancing(bundled: Bundled, dataset: Dataset) -> None:
    ensemble, unbalanced = bundled.bundle.ensemble, bundled.unbalanced
    assert ensemble.adjustment["fear"] > 0
    card = " ".join(model_card(bundled, dataset).split())
    assert f"fear's by {ensemble.adjustment['fear']:.2f}" in card
    assert f"| {ensemble.metrics.recall['fear']:.3f} | {unbalanced.recall['fear']:.3f} |" in card
    points = 100 * (unbalanced.accuracy - ensemble.metrics.accuracy)
    assert f"the accuracy is {unbalanced.accuracy:.4f} and the calibration error" in card
    assert (f"it costs {points:.2f} points of accuracy" in card) == (points > 0)


def test_card_without_balancing_does_not_mention_it(bundled: Bundled, dataset: Dataset) -> None:
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
    assert f"| {STRATIFIED_NAME}, predictions | none | 140 |" in card


def with_record(bundled: Bundled, recipe: Mapping[str, object], **record: object) -> Bundled:
    """The bundle, had its one model been trained by another recipe and with another record."""
    (file, known), *_ = bundled.records.items()
    run = known.run.model_copy(update={"recipe": known.run.recipe.model_copy(update=recipe)})
    run = run.model_copy(update={k: v for k, v in record.items() if k != "teachers"})
    teachers = record.get("teachers", ())
    changed = known.model_copy(update={"run": run, "teachers": teachers})
    return replace(bundled, records={file: changed})


@pytest.mark.parametrize("family", ["backbone", "dlib_resnet", "efficientnet_lite0"])
def test_card_lists_initial_weights_with_licence_and_checksum(
    family: str, bundled: Bundled, dataset: Dataset
) -> None:
    settings = {"family": family, "weights": "hse.npz", "licence": "MIT; for research"}
    model = TypeAdapter(ModelSettings).validate_python(settings)
    pretrained = with_record(bundled, {"model": model}, weights_sha256="ab" * 32)
    own, card = (" ".join(model_card(one, dataset).split()) for one in (bundled, pretrained))
    assert "no weights of others were used" in own
    assert "licences" not in own
    row = f"| tiny | hse.npz | initial weights | MIT; for research | `{'ab' * 32}` | - |"
    assert row in card
    assert "no weights of others" not in card


def test_card_states_a_licence_that_is_not_recorded(bundled: Bundled, dataset: Dataset) -> None:
    model = imagenet.Settings(family="imagenet", application="VGG16")
    model = model.model_copy(update={"weights": Path("vgg16.h5")})
    card = model_card(with_record(bundled, {"model": model}), dataset)
    assert "| tiny | vgg16.h5 | initial weights | not recorded | not recorded | - |" in card


def test_card_lists_the_licences_of_teachers(bundled: Bundled, dataset: Dataset) -> None:
    teacher = Teacher(name="hse96", sha256="", licence="MIT", provenance="VGGFace2, fine-tuned")
    card = model_card(with_record(bundled, {}, teachers=(teacher,)), dataset)
    assert "| tiny | hse96 | soft labels | MIT | not recorded | VGGFace2, fine-tuned |" in card
    assert "no weights of others" not in " ".join(card.split())


def test_card_names_members_without_a_record(bundled: Bundled, dataset: Dataset) -> None:
    card = " ".join(model_card(replace(bundled, records={}), dataset).split())
    assert "The training of these members is not on record: tiny." in card
    assert "no weights of others" not in card


def test_card_has_figures_with_the_camera_prior(bundled: Bundled, dataset: Dataset) -> None:
    card = model_card(bundled, dataset)
    for effect in prior_effects(bundled.probabilities, dataset.validation.labels):
        figures = f"{effect.accuracy:.4f} | {effect.calibration_error:.4f}"
        assert f"| {effect.prior} | {figures} | {effect.camera_accuracy:.4f} |" in card
        shares = " | ".join(f"{100 * n / 140:.0f} %" for n in effect.counts)
        assert f"| PublicTest, predictions | {effect.prior} | 140 | {shares} |" in card


def test_card_has_a_plot_and_a_table_of_each_degradation(
    bundled: Bundled, dataset: Dataset
) -> None:
    files = card_files(bundled, dataset)
    card = files.pop("README.md")
    assert files.keys() == {f"robustness_{kind.name}.svg" for kind in DEGRADATIONS}
    assert all(re.search(r"\]\(" + name + r"\)", card) for name in files)
    assert all("<svg" in content for content in files.values())
    for curve in bundled.robustness.curves:
        first = [f"{values[0]:.3f}" for values in curve.accuracies.values()]
        assert f"| {curve.degradation.levels[0]:g} | {' | '.join(first)} |" in card


def test_card_has_figures_without_near_copies(
    place: Path, dataset: Dataset, tmp_path: Path
) -> None:
    images = dataset.validation.images.copy()
    images[:14] = dataset.training.images[:14]
    images[14:20] = 0.9 * dataset.training.images[14:20]
    copied = replace(dataset, validation=replace(dataset.validation, images=images))
    write_sheets(copied, tmp_path / "sheets")
    card = bundle(place, tmp_path / "sheets", tmp_path / "out")
    text = " ".join(card.split())
    assert "20 of PublicTest's faces have a near-copy in Training" in text
    assert "14 of them are identical, pixel for pixel" in text
    assert "| without near-copies | 120 | 0." in card


def test_card_without_votes_does_not_mention_annotators(
    place: Path, written: Path, dataset: Dataset, tmp_path: Path
) -> None:
    def voteless(split: Split) -> Split:
        return replace(split, votes=np.zeros_like(split.votes))

    stripped = replace(
        dataset, training=voteless(dataset.training), validation=voteless(dataset.validation)
    )
    write_sheets(stripped, tmp_path / "sheets")
    with_votes = card_in(written)
    without = bundle(place, tmp_path / "sheets", tmp_path / "out")
    for text in ("annotators", "The votes of FER+"):
        assert text in with_votes
        assert text not in without


def test_card_with_clips_has_their_predictions(
    place: Path, written: Path, clip: Path, tmp_path: Path
) -> None:
    without = " ".join(card_in(written).split())
    assert "`emotion-trainer bundle --clips CLIP.mp4` adds the predictions" in without
    card = bundle(place, place / "sheets", tmp_path, "--clips", str(clip))
    pattern = rf"^\| `{clip.name}` \| (none|camera) \| 10 \|((?: \d+ % \|){{7}})$"
    rows = re.findall(pattern, card, re.MULTILINE)
    assert [prior for prior, _ in rows] == ["none", "camera"]
    for _, shares in rows:
        assert sum(map(int, re.findall(r"\d+", shares))) == pytest.approx(100, abs=3)


def test_a_bad_clip_leaves_the_bundle_before(
    place: Path, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(written, tmp_path / "out"))
    before = card_in(out)
    (tmp_path / "bad.mp4").write_text("no video")
    arguments = ["bundle", str(place / "run"), "--out", str(out)]
    more = ["--data", str(place / "sheets"), "--clips", str(tmp_path / "bad.mp4")]
    assert main([*arguments, *more]) == 1
    assert "bad.mp4: " in capsys.readouterr().err
    assert card_in(out) == before
    assert json.loads((out / "bundle.json").read_text())
    assert not (out / ".unfinished").exists()
