"""The commands one after the other, as a user runs them."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import subject_of, write_csv, write_sheets

from edge_daemon import EmotionEnsemble
from edge_daemon.inference.bundle import read_bundle
from emotion_trainer.bundle.records import read_bundling, read_records
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset
from emotion_trainer.evaluation.metrics import measure
from emotion_trainer.evaluation.robustness import DEGRADATIONS
from emotion_trainer.models.predictions import keras_logits, tflite_logits
from emotion_trainer.training.runs import Run


def test_int8_predicts_as_float_does(place: Path, dataset: Dataset) -> None:
    run = Run(place / "run")
    faces = dataset.validation.images
    original = keras_logits(run.best_model(), faces)
    exported = tflite_logits(run.require_exported(), faces)
    assert (original.argmax(axis=1) == exported.argmax(axis=1)).mean() > 0.95
    assert np.abs(original - exported).mean() < 0.1 * np.abs(original).mean()


def test_int8_predicts_alike_in_any_batch(place: Path, dataset: Dataset) -> None:
    path = Run(place / "run").require_exported()
    faces = dataset.validation.images[:24]
    alone = tflite_logits(path, faces, batch=1)
    for batch in (2, 4, 8):
        np.testing.assert_allclose(tflite_logits(path, faces, batch=batch), alone, atol=1e-5)


def test_bundle_is_read_by_the_daemon(
    place: Path, tmp_path: Path, dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(place / "sheets")]
    assert main(["bundle", str(place / "run"), "--out", str(tmp_path), *data]) == 0
    bundle = read_bundle(tmp_path)
    member = bundle.members[0]
    assert member.file == "tiny_int8.tflite"
    assert member.provenance.data_fingerprint == dataset.fingerprint
    assert member.metrics.accuracy > 0.5

    probabilities = EmotionEnsemble.load(tmp_path).predict(dataset.validation.images)
    accuracy = (probabilities.argmax(axis=1) == dataset.validation.labels).mean()
    assert accuracy == pytest.approx(bundle.ensemble.metrics.accuracy, abs=1e-4)

    output = capsys.readouterr().out
    assert bundle.bundle_id in output
    assert f"{read_bundling(tmp_path).cross_fitted.accuracy:.4f}" in output
    assert main(["evaluate", str(tmp_path), *data]) == 0
    assert f"{bundle.ensemble.metrics.accuracy:.4f}" in capsys.readouterr().out


@pytest.fixture
def _equal_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the second view of a tiny model adds anything depends on the processor."""
    monkeypatch.setattr(
        "emotion_trainer.bundle.ensembling._least_loss",
        lambda predictions, _labels: np.ones(len(predictions)),
    )


@pytest.mark.usefixtures("_equal_weights")
def test_bundle_mirrored_has_two_members_of_a_model(
    place: Path, tmp_path: Path, dataset: Dataset
) -> None:
    data = ["--data", str(place / "sheets")]
    words = ["bundle", str(place / "run"), "--out", str(tmp_path), "--mirrored", *data]
    assert main(words) == 0
    bundle = read_bundle(tmp_path)
    assert [member.file for member in bundle.members] == ["tiny_int8.tflite"] * 2
    assert {member.mirrored for member in bundle.members} == {False, True}
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| `tiny_int8.tflite`, mirrored | resnet, int8 |" in card
    assert f"| together | | {2 * bundle.members[0].mmac:.2f} |" in card
    assert card.count("| `tiny` | 3 |") == 1

    probabilities = EmotionEnsemble.load(tmp_path).predict(dataset.validation.images)
    accuracy = (probabilities.argmax(axis=1) == dataset.validation.labels).mean()
    assert accuracy == pytest.approx(bundle.ensemble.metrics.accuracy, abs=1e-4)


@pytest.mark.usefixtures("_equal_weights")
def test_card_keeps_what_the_limit_left_out(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ["--data", str(place / "sheets")]
    words = ["bundle", str(place / "run"), "--out", str(tmp_path), "--mirrored", *data]
    assert main([*words, "--max-mmac", "1.5"]) == 0
    (left_out,) = read_bundling(tmp_path).left_out
    (member,) = read_bundle(tmp_path).members
    assert (left_out.file, left_out.reason) == ("tiny_int8.tflite", "max_mmac")
    assert left_out.mirrored != member.mirrored
    output = capsys.readouterr().out
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| over --max-mmac 1.5 |" in card
    assert main(["card", str(tmp_path), *data]) == 0
    assert capsys.readouterr().out == output
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == card


def test_card_measures_the_cross_fitted_figures_again(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(place / "sheets")]
    words = ["bundle", str(place / "run"), "--out", str(tmp_path), "--mirrored", *data]
    assert main([*words, "--max-mmac", "1.5"]) == 0
    output = capsys.readouterr().out
    forget_cross_fitted(tmp_path)
    assert main(["card", str(tmp_path), *data]) == 0
    assert capsys.readouterr().out == output


def test_card_without_a_candidates_file_has_the_recorded_figures(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(place / "sheets")]
    runs = [str(place / "run"), str(renamed(place / "run", tmp_path / "run"))]
    out = tmp_path / "out"
    assert main(["bundle", *runs, "--out", str(out), *data, "--max-mmac", "1.5"]) == 0
    assert len(read_bundling(out).left_out) == 1
    forget_cross_fitted(out)
    capsys.readouterr()
    assert main(["card", str(out), *data]) == 0
    assert "0.1234" in capsys.readouterr().out


def forget_cross_fitted(bundle: Path) -> None:
    """Replace the recorded accuracy by another."""
    path = bundle / "training.json"
    records = json.loads(path.read_text())
    records["bundling"]["cross_fitted"]["accuracy"] = 0.1234
    path.write_text(json.dumps(records))


def test_bundle_adjustment_is_applied_by_the_daemon(
    place: Path,
    tmp_path: Path,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("emotion_trainer.bundle.balancing.MIN_RECALL", 0.95)
    data = ["--data", str(place / "sheets")]
    assert main(["bundle", str(place / "run"), "--out", str(tmp_path), *data]) == 0
    ensemble = read_bundle(tmp_path).ensemble
    assert ensemble.adjustment

    predicted = EmotionEnsemble.load(tmp_path).predict(dataset.validation.images)
    assert measure(predicted, dataset.validation.labels, "PublicTest") == ensemble.metrics


def test_manifest_of_another_split_names_it(place: Path, tmp_path: Path) -> None:
    data = ["--data", str(place / "sheets"), "--split", "stratified"]
    folders = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert main(["ladder", str(place / "tiny.toml"), *folders, *data]) == 0
    assert main(["evaluate", str(tmp_path / "out"), *data]) == 0
    bundle = read_bundle(tmp_path / "out")
    assert bundle.members[0].metrics.split == "20 % of Training"
    assert bundle.ensemble.metrics.split == "20 % of Training"


def renamed(run: Path, copy: Path) -> Path:
    """A copy of the run "tiny", as if its recipe were called "other"."""
    shutil.copytree(run, copy)
    record = copy / "run.json"
    record.write_text(record.read_text().replace('"tiny"', '"other"'))
    shutil.move(copy / "tiny_int8.tflite", copy / "other_int8.tflite")
    return copy


def test_bundle_of_a_bundle_keeps_its_models(place: Path, tmp_path: Path) -> None:
    data = ["--data", str(place / "sheets")]
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert main(["bundle", str(place / "run"), "--out", first, *data]) == 0
    assert (
        main(
            ["bundle", first, str(renamed(place / "run", tmp_path / "run")), "--out", second, *data]
        )
        == 0
    )
    before, after = read_bundle(tmp_path / "first"), read_bundle(tmp_path / "second")
    members = {member.provenance.recipe: member for member in after.members}
    kept = {"weight": 1.0}
    assert members["tiny"].model_copy(update=kept) == before.members[0].model_copy(update=kept)
    card = (tmp_path / "second" / "README.md").read_text()
    assert re.search(r"^\| tiny \| 0\.\d+ \|", card, re.MULTILINE)  # the float model's accuracy
    assert read_records(tmp_path / "second").keys() == {"tiny_int8.tflite", "other_int8.tflite"}
    assert not list((tmp_path / "first").glob("*.npz"))


def test_bundle_with_a_model_of_the_same_name_is_refused(place: Path, tmp_path: Path) -> None:
    data = ["--data", str(place / "sheets"), "--out", str(tmp_path)]
    assert main(["bundle", str(place / "run"), *data]) == 0
    assert main(["bundle", str(tmp_path), str(place / "run"), *data]) == 2


def test_bundling_replaces_the_bundle_before(place: Path, tmp_path: Path) -> None:
    data = ["--data", str(place / "sheets")]
    (tmp_path / "README.md").touch()
    assert main(["bundle", str(place / "run"), "--out", str(tmp_path), *data]) == 0
    other = renamed(place / "run", tmp_path / "renamed")
    assert main(["bundle", str(other), "--out", str(tmp_path), *data]) == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "README.md",
        "bundle.json",
        "training.json",
        "other_int8.tflite",
        *(f"robustness_{kind.name}.svg" for kind in DEGRADATIONS),
    }


def test_card_of_a_bundle_leaves_its_manifest(
    place: Path, tmp_path: Path, dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(place / "sheets")]
    assert main(["bundle", str(place / "run"), "--out", str(tmp_path), *data]) == 0
    card, plot = tmp_path / "README.md", tmp_path / "robustness_blur.svg"
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    card.write_text("")
    plot.unlink()
    assert main(["card", str(tmp_path), *data]) == 0
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    labels = (dataset.validation.labels + 1) % 7
    other = replace(dataset, validation=replace(dataset.validation, labels=labels))
    write_sheets(other, tmp_path / "other")
    assert main(["card", str(tmp_path), "--data", str(tmp_path / "other")]) == 1
    assert subject_of(capsys.readouterr().err) == str(tmp_path)


def test_evaluate_robustness_writes_tables_and_plots(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(place / "run" / "tiny_int8.tflite")
    words = ["evaluate", model, "--robustness", str(tmp_path / "plots")]
    assert main([*words, "--data", str(place / "sheets")]) == 0
    assert capsys.readouterr().out.count("| tiny_int8.tflite |") == len(DEGRADATIONS)
    plots = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert plots == sorted(f"robustness_{kind.name}.svg" for kind in DEGRADATIONS)


def test_bundle_of_two_runs_of_one_name_is_refused(place: Path, tmp_path: Path) -> None:
    run = str(place / "run")
    out = str(tmp_path / "out")
    assert main(["bundle", run, run, "--out", out, "--data", str(place / "sheets")]) == 2


def test_votes_are_not_needed(place: Path, tmp_path: Path, dataset: Dataset) -> None:
    write_csv(dataset, tmp_path / "fer2013.csv")
    model = place / "run" / "best.keras"
    assert main(["evaluate", str(model), "--data", str(tmp_path / "fer2013.csv")]) == 0


def test_bundling_wants_an_export(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run", ignore=shutil.ignore_patterns("*.tflite"))
    arguments = ["bundle", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--data", str(place / "sheets")]) == 1


@pytest.mark.parametrize(
    ("arguments", "setting", "value"),
    [
        (["train", "absent.toml", "--data", "absent"], "RECIPE", "absent.toml"),
        (["export", "absent", "--data", "."], "RUN", "absent"),
        (["evaluate", ".", "--data", "absent"], "--data", "absent"),
        (["train", ".", "--data", ".", "--epochs", "x"], "--epochs", "'x'"),
        (["train", ".", "--data", "."], "RECIPE", "."),
    ],
)
def test_main_invalid_argument_prints_one_line(
    arguments: list[str], setting: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert subject_of(error) == setting
    assert f"(got {value})" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("backend", ["theano", "jax"])
def test_main_missing_backend_prints_one_line(
    backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr("emotion_trainer.cli.find_spec", lambda _: None)
    assert main(["evaluate", ".", "--data", "."]) == 2
    error = capsys.readouterr().err
    assert subject_of(error) == "KERAS_BACKEND"
    assert f"(got '{backend}')" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        "bundle RUN --data DATA --out",
        "ladder RECIPE --data DATA --out",
        "teach RUN --data DATA --out",
        "convert RECIPE --out",
        "report RUN --out",
        "prepare --data DATA --duplicates",
        "prepare --data DATA --crop-to",
        "evaluate RUN --data DATA --robustness",
        "detector label --data DATA --teacher RECIPE --out",
        "detector export RUN --photos DATA --crops RECIPE --out",
        "detector compare DATA --teacher RECIPE --misses",
    ],
)
def test_main_output_that_cannot_be_created_is_refused_early(
    command: str,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("emotion_trainer.cli.import_keras", refuse_work)
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "folder" / "out")
    assert main([*words(command, place), out]) == 2
    error = capsys.readouterr().err
    assert subject_of(error) == command.rpartition(" ")[2]
    assert str(tmp_path / "file") in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        "bundle RUN --data DATA --out OUT --clips",
        "bundle RUN --data DATA --out OUT --detector-model",
        "ladder RECIPE --data DATA --out OUT --unlabelled",
        "prepare --data DATA --detector-model",
        "detector train RECIPE --photos DATA --crops RECIPE --weights",
        "detector compare DATA --teacher RECIPE --detector-model",
    ],
)
def test_main_missing_input_is_refused_early(
    command: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("emotion_trainer.cli.import_keras", refuse_work)
    assert main([*words(command, place), "absent"]) == 2
    error = capsys.readouterr().err
    assert subject_of(error) == command.rpartition(" ")[2]
    assert "(got absent)" in error
    assert error.count("\n") == 1


def words(command: str, place: Path) -> list[str]:
    """The words of a command, with paths that are there."""
    paths = {"RUN": place / "run", "DATA": place / "sheets", "RECIPE": place / "tiny.toml"}
    return [str(paths.get(word, word)) for word in command.split()]


def refuse_work() -> None:
    raise AssertionError("Keras is imported after the arguments are checked")


def test_output_file_that_is_a_folder_or_not_writable_is_refused(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["report", str(place / "run"), "--out"]
    assert main([*command, str(tmp_path)]) == 2
    assert subject_of(capsys.readouterr().err) == "--out"
    monkeypatch.setattr("os.access", lambda *_: False)  # a superuser may write anywhere
    assert main([*command, str(tmp_path / "page.html")]) == 2
    assert subject_of(capsys.readouterr().err) == "--out"


def test_outputs_in_a_missing_folder_are_written(place: Path, tmp_path: Path) -> None:
    page, soft, listed = (tmp_path / "new" / name for name in ("a/page.html", "b/s.npz", "c/d.csv"))
    data = ["--data", str(place / "sheets")]
    assert main(["report", str(place / "run"), "--out", str(page)]) == 0
    assert main(["teach", str(place / "run"), "--out", str(soft), *data]) == 0
    assert main(["prepare", "--duplicates", str(listed), *data]) == 0
    assert all(path.stat().st_size for path in (page, soft, listed))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["train"], "RECIPE"),
        (["trian", "a.toml"], "did you mean 'train'?"),
        (["detector", "compair"], "did you mean 'compare'?"),
        (["train", "a.toml", "--dta", "b"], "did you mean '--data'?"),
        (["train", "a.toml", "--zzz"], "'--zzz'"),
    ],
)
def test_main_bad_usage_exits_with_2(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1
