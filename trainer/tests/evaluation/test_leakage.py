import shutil
from pathlib import Path

import pytest
from conftest import subject_of, write_folders

from emotion_trainer.cli import main
from emotion_trainer.data import Dataset


@pytest.fixture(scope="module")
def bundle(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the run trained on the official split."""
    folder = tmp_path_factory.mktemp("official") / "bundle"
    sheets = str(place / "sheets")
    assert main(["bundle", str(place / "run"), "--data", sheets, "--out", str(folder)]) == 0
    return folder


def stratified(place: Path) -> list[str]:
    return ["--data", str(place / "sheets"), "--split", "stratified"]


@pytest.mark.parametrize("command", ["export", "bundle", "evaluate", "track", "report"])
def test_run_of_official_split_on_stratified_split_is_refused(
    command: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")] if command in ("bundle", "report") else []
    assert main([command, str(place / "run"), *out, *stratified(place)]) == 1
    error = capsys.readouterr().err
    assert subject_of(error) == str(place / "run")
    assert "--split stratified" in error  # the fix
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["best.keras", "tiny_int8.tflite"])
def test_file_of_the_run_on_stratified_split_is_refused(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(place / "run" / name), *stratified(place)]) == 1
    assert subject_of(capsys.readouterr().err) == str(place / "run" / name)


def test_bundle_of_the_run_on_stratified_split_is_refused(
    bundle: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in (bundle, bundle / "tiny_int8.tflite"):
        assert main(["evaluate", str(model), *stratified(place)]) == 1
        assert subject_of(capsys.readouterr().err) == str(model)


def test_bundle_on_folders_without_validation_part_is_refused(
    bundle: Path,
    place: Path,
    tmp_path: Path,
    dataset: Dataset,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fifth of them is validated on, though the split was not asked for."""
    write_folders(dataset, tmp_path)
    data = ["--data", str(tmp_path / "train")]
    for model in (bundle, place / "run" / "best.keras"):
        assert main(["evaluate", str(model), *data]) == 1
        output = capsys.readouterr()
        assert subject_of(output.err) == str(model)
        assert "--split stratified" not in output.err
        assert output.out == ""


def test_run_of_folders_without_validation_part_is_measured(
    place: Path, tmp_path: Path, dataset: Dataset
) -> None:
    write_folders(dataset, tmp_path)
    data, run = ["--data", str(tmp_path / "train")], str(tmp_path / "run")
    trial = ["--limit", "100", "--epochs", "1", "--run", run]
    assert main(["train", str(place / "tiny.toml"), *trial, *data]) == 0
    assert main(["evaluate", f"{run}/best.keras", *data]) == 0


def test_run_of_stratified_split_on_either_split_is_measured(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text((place / "tiny.toml").read_text().replace("epochs = 4", "epochs = 1"))
    assert main(["train", str(recipe), "--run", run, *stratified(place)]) == 0
    capsys.readouterr()
    model = str(tmp_path / "run" / "best.keras")
    assert main(["evaluate", model, *stratified(place)]) == 0
    assert capsys.readouterr().out.startswith("20 % of Training, 90 faces")
    assert main(["evaluate", model, "--data", str(place / "sheets")]) == 0
    assert capsys.readouterr().out.startswith("PublicTest, 140 faces")


@pytest.mark.parametrize("role", ["start", "teacher"])
def test_run_of_official_split_may_not_teach_on_stratified_split(
    role: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place / "run"
    recipe, text = tmp_path / "tiny.toml", (place / "tiny.toml").read_text()
    if role == "start":
        text = f'start = "{run / "best.keras"}"\n{text}'
    else:
        text += f'\n[distillation]\nteachers = ["{run}"]\n'
    recipe.write_text(text)
    for command in (
        ["train", str(recipe), "--run", str(tmp_path / "run")],
        ["ladder", str(recipe), "--work", str(tmp_path), "--out", str(tmp_path / "out")],
    ):
        assert main([*command, *stratified(place)]) == 1
        expected = run / "best.keras" if role == "start" else run
        assert subject_of(capsys.readouterr().err) == str(expected)
    assert not (tmp_path / "run").exists()


def test_trial_of_stratified_split_is_measured_on_it(place: Path, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    trial = ["--limit", "100", "--epochs", "1", "--run", run]
    assert main(["train", str(place / "tiny.toml"), *trial, *stratified(place)]) == 0
    assert main(["evaluate", f"{run}/best.keras", *stratified(place)]) == 0


def test_file_without_its_run_is_measured(place: Path, tmp_path: Path) -> None:
    lone = shutil.copy(place / "run" / "best.keras", tmp_path)
    assert main(["evaluate", str(lone), *stratified(place)]) == 0
