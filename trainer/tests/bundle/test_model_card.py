import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from edge_daemon.inference.bundle import read_bundle
from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.bundling import make_bundle
from emotion_trainer.bundle.candidates import TrainedModel
from emotion_trainer.bundle.clips import ClipPredictions
from emotion_trainer.bundle.figures import Bundled
from emotion_trainer.bundle.model_card import (
    Weakness,
    card_files,
    card_values,
    confused_pair,
    model_card,
    sources_of,
    weakest,
)
from emotion_trainer.bundle.records import LeftOut
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
WIDTH = 100
CLIPS = [
    ClipPredictions("face.mp4", prior, np.array([1, 0, 0, 3, 0, 0, 6]))
    for prior in ("none", "camera")
]
TEACHER = Teacher(name="hse96", sha256="", licence="MIT", provenance="VGGFace2, fine-tuned")


def headings(card: str) -> list[str]:
    return [line.lstrip("# ") for line in card.splitlines() if line.startswith("#")]


def table(card: str, *columns: str) -> list[list[str]]:
    """The rows of the table whose first columns are these; empty if there is none."""
    lines = card.splitlines()
    for number, line in enumerate(lines):
        if _cells(line)[: len(columns)] == list(columns):
            rows = (_cells(row) for row in lines[number + 2 :])
            found = []
            while row := next(rows, []):
                found.append(row)
            return found
    return []


def _cells(line: str) -> list[str]:
    """The cells of a table's line; none of another line."""
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


def require_well_formed(card: str) -> None:
    """Lines are filled, paragraphs separate, and a table's rows as long as its header."""
    before: list[str] = []
    for line in card.splitlines():
        cells = _cells(line)
        assert cells or line.startswith("    ") or len(line) <= WIDTH
        assert not (cells and before) or len(cells) == len(before)
        before = cells
    assert "\n\n\n" not in card


@pytest.fixture
def confusion() -> np.ndarray:
    """A hundred faces of each, all right but for what is set here."""
    matrix = np.eye(len(EMOTIONS), dtype=np.int64) * 100
    matrix[DISGUST, [DISGUST, ANGRY]] = 30, 70
    matrix[FEAR, [FEAR, SAD, ANGRY]] = 50, 30, 20
    matrix[SAD, [SAD, NEUTRAL]] = 80, 20
    matrix[NEUTRAL, [NEUTRAL, SAD]] = 90, 10
    return matrix


def test_weakest_are_sorted_by_recall(confusion: np.ndarray) -> None:
    first, second = weakest(confusion)
    assert first == Weakness("disgust", 0.3, "angry", 0.7)
    assert second == Weakness("fear", 0.5, "sad", 0.3)


def test_confused_pair_has_shares_in_both_directions(confusion: np.ndarray) -> None:
    found = confused_pair(confusion)
    assert (found.first, found.second) == ("sad", "neutral")
    assert (found.first_as_second, found.second_as_first) == (0.2, 0.1)


@pytest.fixture(scope="module")
def bundled(place: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    """What the card is made from."""
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle([TrainedModel(Run(place / "run"))], dataset, folder, lambda *_: {})


def bundle(place: Path, out: Path, *more: str) -> str:
    arguments = ["bundle", str(place / "run"), "--out", str(out)]
    assert main([*arguments, "--data", str(place / "sheets"), *more]) == 0
    return card_in(out)


@pytest.fixture(scope="module")
def written(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle, written over another card."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "README.md").write_text("of the bundle before")
    bundle(place, folder)
    return folder


def card_in(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_card_has_the_figures_of_the_manifest(written: Path) -> None:
    card = card_in(written)
    manifest = read_bundle(written)
    member, ensemble = manifest.members[0], manifest.ensemble
    require_well_formed(card)
    assert "of the bundle before" not in card
    (row, together) = table(card, "member", "family")
    assert row[:3] == ["`tiny_int8.tflite`", "resnet, int8", f"{member.mmac:.2f}"]
    assert together[:3] == ["together", "", f"{member.mmac:.2f}"]
    assert [row[:2] for row in table(card, "member", "seed")] == [["`tiny`", "3"]]
    recalls = {row[0]: float(row[8]) for row in table(card, "label", *EMOTIONS, "recall")}
    assert recalls == pytest.approx(ensemble.metrics.recall, abs=6e-4)
    assert [row[2] for row in table(card, "member", "float")] == [f"{member.metrics.accuracy:.4f}"]


def test_card_values_describe_data_and_training(bundled: Bundled, dataset: Dataset) -> None:
    values = card_values(bundled, dataset)
    assert (values["training"], values["validation"]) == (448, 140)
    assert values["votes"] == [0.3]
    assert values["recipes"] == ["recipes/tiny.toml"]
    assert values["options"] == ["--data PATH", "--out ../models"]
    assert values["sources"] == values["warnings"] == values["unrecorded"] == []
    assert not values["unlabelled"]


def unadjusted(bundled: Bundled) -> Bundled:
    ensemble = bundled.bundle.ensemble.model_copy(update={"adjustment": {}})
    manifest = bundled.bundle.model_copy(update={"ensemble": ensemble})
    return replace(bundled, bundle=manifest)


def test_card_has_recalls_with_and_without_adjustment(bundled: Bundled, dataset: Dataset) -> None:
    assert bundled.bundle.ensemble.adjustment
    card = model_card(bundled, dataset)
    rows = table(card, "label", *EMOTIONS, "recall", "unadjusted")
    assert {row[0]: float(row[9]) for row in rows} == pytest.approx(
        bundled.unbalanced.recall, abs=6e-4
    )
    plain = model_card(unadjusted(bundled), dataset)
    assert {len(row) for row in table(plain, "label", *EMOTIONS, "recall")} == {9}


def test_recalls_below_the_limit_are_in_card_and_report(bundled: Bundled, dataset: Dataset) -> None:
    ensemble = bundled.bundle.ensemble
    recall = dict.fromkeys(EMOTIONS, 0.8) | {"fear": 0.1234}
    metrics = ensemble.metrics.model_copy(update={"recall": recall})
    ensemble = ensemble.model_copy(update={"metrics": metrics})
    weak = replace(bundled, bundle=bundled.bundle.model_copy(update={"ensemble": ensemble}))
    assert weak.given_up == {"fear": 0.1234}
    assert "fear 0.1234; " in str(weak).splitlines()[-2]
    card = model_card(weak, dataset)
    require_well_formed(card)
    assert "fear 0.123." in card


def test_adjustment_is_among_what_was_fitted_only_if_used(
    bundled: Bundled, dataset: Dataset
) -> None:
    for one, last in ((bundled, "the adjustment"), (unadjusted(bundled), "the temperatures")):
        fitted = card_values(one, dataset)["fitted"]
        assert fitted[-1] == last
        assert f" and {last} were selected" in " ".join(model_card(one, dataset).split())


def test_card_of_other_data_does_not_name_fer2013(
    bundled: Bundled, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(dataset, validation_name=STRATIFIED_NAME)
    assert not card_values(bundled, dataset)["is_fer2013"]
    monkeypatch.setattr("emotion_trainer.bundle.model_card.FER2013_FACES", 588)
    assert card_values(bundled, dataset)["is_fer2013"]
    values, card = card_values(bundled, own), model_card(bundled, own)
    assert values["is_stratified"]
    assert values["options"][-1] == "--split stratified"
    assert not values["is_fer2013"]
    assert "FER2013 (" not in card
    assert "    emotion-trainer evaluate ../models --data PATH --split stratified" in card
    rows = table(card, "of", "prior", "faces")
    assert rows[1][:3] == [f"{STRATIFIED_NAME}, predictions", "none", "140"]


def test_card_does_not_give_the_data_to_foreign_members(bundled: Bundled, dataset: Dataset) -> None:
    foreign = replace(bundled, foreign=("tiny",))
    own, other = (" ".join(model_card(one, dataset).split()) for one in (bundled, foreign))
    for words in ("trained on 448 faces", "There are only 64 faces"):
        assert words in own
        assert words not in other
    assert "trained on other data: tiny." in other
    require_well_formed(model_card(foreign, dataset))


def with_left_out(bundled: Bundled) -> Bundled:
    views = [
        LeftOut(file="a_int8.tflite", recipe="a", mirrored=True, mmac=105.06, reason="max_mmac"),
        LeftOut(file="b_int8.tflite", recipe="b", mirrored=False, mmac=9.5, reason="weight"),
    ]
    options = {"mirrored": True, "max_mmac": 150.0, "unlabelled": True, "left_out": views}
    return replace(bundled, bundling=bundled.bundling.model_copy(update=options))


def test_card_has_what_was_left_out_with_the_reason(bundled: Bundled, dataset: Dataset) -> None:
    left_out = with_left_out(bundled)
    options = ["--data PATH", "--unlabelled FACES", "--out ../models", "--mirrored"]
    assert card_values(left_out, dataset)["options"] == [*options, "--max-mmac 150"]
    card = model_card(left_out, dataset)
    assert table(card, "left out") == [
        ["a, mirrored", "105.06", "over --max-mmac 150"],
        ["b", "9.50", "weight under 1 %"],
    ]
    assert "  a, mirrored: left out, over --max-mmac 150" in str(left_out).splitlines()
    assert "  b: left out, weight under 1 %" in str(left_out).splitlines()


def with_record(bundled: Bundled, recipe: Mapping[str, object], **record: object) -> Bundled:
    """The bundle, had its one model been trained by another recipe and with another record."""
    (file, known), *_ = bundled.records.items()
    run = known.run.model_copy(update={"recipe": known.run.recipe.model_copy(update=recipe)})
    run = run.model_copy(update={k: v for k, v in record.items() if k != "teachers"})
    teachers = record.get("teachers", ())
    changed = known.model_copy(update={"run": run, "teachers": teachers})
    return replace(bundled, records={file: changed})


SOURCES = ("member", "trained from", "as", "licence", "SHA-256", "origin")


@pytest.mark.parametrize("family", ["backbone", "dlib_resnet", "efficientnet_lite0"])
def test_card_lists_initial_weights_with_licence_and_checksum(
    family: str, bundled: Bundled, dataset: Dataset
) -> None:
    settings = {"family": family, "weights": "hse.npz", "licence": "MIT; for research"}
    model = TypeAdapter(ModelSettings).validate_python(settings)
    pretrained = with_record(bundled, {"model": model}, weights_sha256="ab" * 32)
    row = ["tiny", "hse.npz", "initial weights", "MIT; for research", f"`{'ab' * 32}`", "-"]
    assert table(model_card(pretrained, dataset), *SOURCES) == [row]
    assert not table(model_card(bundled, dataset), *SOURCES)


def test_sources_have_licences_as_far_as_recorded(bundled: Bundled) -> None:
    model = imagenet.Settings(family="imagenet", application="VGG16")
    model = model.model_copy(update={"weights": Path("vgg16.h5")})
    origins = (
        Teacher(name="a", sha256="cd" * 32, licence="Apache-2.0", provenance="commit 1a2b"),
        Teacher(name="faces.npz", sha256="", licence="MIT", provenance="initial weights of a"),
    )
    record = {"teachers": (TEACHER,), "start_origins": origins}
    found = sources_of(with_record(bundled, {"model": model}, **record))
    assert [(one.name, one.role, one.licence, one.sha256) for one in found] == [
        ("hse96", "soft labels", "MIT", ""),
        ("vgg16.h5", "initial weights", None, None),
        ("a", "start", "Apache-2.0", "cd" * 32),
        ("faces.npz", "start", "MIT", ""),
    ]


def test_card_lists_what_is_not_recorded_as_such(bundled: Bundled, dataset: Dataset) -> None:
    card = model_card(with_record(bundled, {}, teachers=(TEACHER,)), dataset)
    unrecorded = "not recorded"
    row = ["tiny", "hse96", "soft labels", "MIT", unrecorded, "VGGFace2, fine-tuned"]
    assert table(card, *SOURCES) == [row]


def test_card_values_name_members_without_a_record(bundled: Bundled, dataset: Dataset) -> None:
    assert card_values(replace(bundled, records={}), dataset)["unrecorded"] == ["tiny"]


def test_card_has_figures_with_the_camera_prior(bundled: Bundled, dataset: Dataset) -> None:
    card = model_card(bundled, dataset)
    figures = {row[0]: row[1:] for row in table(card, "prior", "accuracy", "calibration error")}
    shares = {row[1]: row[2:] for row in table(card, "of", "prior", "faces") if row[1] != "-"}
    for effect in prior_effects(bundled.probabilities, dataset.validation.labels):
        expected = (effect.accuracy, effect.calibration_error, effect.camera_accuracy)
        assert figures[effect.prior][:3] == [f"{value:.4f}" for value in expected]
        assert shares[effect.prior] == ["140", *(f"{100 * n / 140:.0f} %" for n in effect.counts)]
        (flagged,) = (row for row in table(card, "prior", "uncertain") if row[0] == effect.prior)
        assert flagged[3] == f"{effect.certain_accuracy:.3f}"


def test_card_has_a_plot_and_a_table_of_each_degradation(
    bundled: Bundled, dataset: Dataset
) -> None:
    files = card_files(bundled, dataset)
    card = files.pop("README.md")
    assert files.keys() == {f"robustness_{kind.name}.svg" for kind in DEGRADATIONS}
    assert all(f"]({name})" in card for name in files)
    assert all("<svg" in content for content in files.values())
    for curve in bundled.robustness.curves:
        first = [f"{values[0]:.3f}" for values in curve.accuracies.values()]
        rows = table(card, curve.degradation.title)
        assert rows[0][: 1 + len(first)] == [f"{curve.degradation.levels[0]:g}", *first]


def with_copies(dataset: Dataset) -> Dataset:
    """Fourteen validation faces that are in Training too, and six darker copies."""
    images = dataset.validation.images.copy()
    images[:14] = dataset.training.images[:14]
    images[14:20] = 0.9 * dataset.training.images[14:20]
    return replace(dataset, validation=replace(dataset.validation, images=images))


def test_card_has_figures_without_near_copies(bundled: Bundled, dataset: Dataset) -> None:
    copied = with_copies(dataset)
    found = card_values(bundled, copied)["without_copies"]
    assert (found.copies, found.identical) == (20, 14)
    rows = table(model_card(bundled, copied), "PublicTest", "faces")
    assert [row[:2] for row in rows] == [["all", "140"], ["without near-copies", "120"]]
    assert rows[1][2] == f"{found.accuracy:.4f}"


def without_votes(dataset: Dataset) -> Dataset:
    def voteless(split: Split) -> Split:
        return replace(split, votes=np.zeros_like(split.votes))

    return replace(
        dataset, training=voteless(dataset.training), validation=voteless(dataset.validation)
    )


def test_card_values_without_votes_have_no_annotators(bundled: Bundled, dataset: Dataset) -> None:
    assert card_values(bundled, dataset)["seen_as_labelled"] == 1.0
    values = card_values(bundled, without_votes(dataset))
    assert values["votes"] == []
    assert values["seen_as_labelled"] is None


BASE = [
    "Model card: the bundled models",
    "Data",
    "Figures",
    "With the prior of a camera",
    "Small, blurred, dark and compressed faces",
    "Shares of the predictions",
    "Known limits",
    "Intended use and misuse",
    "How they were made",
]
ORIGIN = "Teachers, initial weights and their licences"
COPIES = "Without near-copies of training faces"


@pytest.mark.parametrize(
    ("branch", "sections"),
    [
        ("own", []),
        ("adjusted", []),
        ("unadjusted", []),
        ("stratified", []),
        ("voteless", []),
        ("copied", [COPIES]),
        ("clips", []),
        ("unlabelled", []),
        ("taught", [ORIGIN]),
        ("unrecorded", [ORIGIN]),
        ("left out", []),
    ],
)
def test_card_has_the_sections_of_each_branch(
    branch: str, sections: Sequence[str], bundled: Bundled, dataset: Dataset
) -> None:
    card = {
        "own": lambda: model_card(bundled, dataset),
        "adjusted": lambda: model_card(unreachable(bundled), dataset),
        "unadjusted": lambda: model_card(unadjusted(bundled), dataset),
        "stratified": lambda: model_card(
            bundled, replace(dataset, validation_name=STRATIFIED_NAME)
        ),
        "voteless": lambda: model_card(bundled, without_votes(dataset)),
        "copied": lambda: model_card(bundled, with_copies(dataset)),
        "clips": lambda: model_card(bundled, dataset, CLIPS),
        "unlabelled": lambda: model_card(
            with_record(bundled, {}, unlabelled_fingerprint="ef"), dataset
        ),
        "taught": lambda: model_card(with_record(bundled, {}, teachers=(TEACHER,)), dataset),
        "unrecorded": lambda: model_card(replace(bundled, records={}), dataset),
        "left out": lambda: model_card(with_left_out(bundled), dataset),
    }[branch]()
    require_well_formed(card)
    assert sorted(headings(card)) == sorted([*BASE, *sections])


def unreachable(bundled: Bundled) -> Bundled:
    """The bundle, had the adjustment not been enough and cost accuracy."""
    ensemble = bundled.bundle.ensemble
    metrics = ensemble.metrics.model_copy(
        update={"accuracy": 0.5, "recall": {**ensemble.metrics.recall, "fear": 0.1}}
    )
    manifest = bundled.bundle.model_copy(
        update={"ensemble": ensemble.model_copy(update={"metrics": metrics})}
    )
    return replace(bundled, bundle=manifest)


def test_card_with_clips_has_their_predictions(place: Path, clip: Path, tmp_path: Path) -> None:
    card = bundle(place, tmp_path, "--clips", str(clip))
    rows = [row for row in table(card, "of", "prior", "faces") if row[0] == f"`{clip.name}`"]
    assert [row[1:3] for row in rows] == [["none", "10"], ["camera", "10"]]
    for row in rows:
        shares = [int(cell.removesuffix(" %")) for cell in row[3:]]
        assert len(shares) == len(EMOTIONS)
        assert sum(shares) == pytest.approx(100, abs=3)


def test_bundle_with_a_bad_clip_keeps_the_old_bundle(
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
