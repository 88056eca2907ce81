"""Runs in a real MLflow store: a SQLite file, made once."""

import json
import shutil
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from edge_daemon.inference.bundle import read_bundle
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset
from emotion_trainer.models.predictions import keras_logits
from emotion_trainer.recipe import Recipe
from emotion_trainer.tracking.tracker import Tracker, store_uri, track
from emotion_trainer.training.progress import Progress
from emotion_trainer.training.runs import Run
from emotion_trainer.training.trainer import Trainer

CURVES = ("epoch/loss", "epoch/accuracy", "epoch/seconds", "epoch/learning_rate")
AWAY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def client(uri: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """The store that runs are tracked in."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Run:
    """A finished, exported run that was never tracked."""
    return Run(Path(shutil.copytree(place / "run", tmp_path / "run")))


@pytest.fixture(scope="module")
def logged(uri: str, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished, exported run that was tracked."""
    run = Run(Path(shutil.copytree(place / "run", tmp_path_factory.mktemp("logged") / "run")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        assert track(run) == run.mlflow_run_id
    return run


def id_of(run: Run) -> str:
    assert run.mlflow_run_id is not None
    return run.mlflow_run_id


def curves(client: MlflowClient, run: Run) -> dict[str, list[int]]:
    """The steps of each curve in the store."""
    return {
        name: [point.step for point in client.get_metric_history(id_of(run), name)]
        for name in CURVES
    }


def whole_curves(epochs: int) -> dict[str, list[int]]:
    return {name: list(range(1, epochs + 1)) for name in CURVES}


def artifacts(client: MlflowClient, run: Run) -> set[str]:
    return {artifact.path for artifact in client.list_artifacts(id_of(run))}


def test_track_logs_the_whole_run(client: MlflowClient, logged: Run) -> None:
    found = client.get_run(id_of(logged))
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "tiny"
    assert found.data.params["optimisation.learning_rate"] == "0.1"
    assert found.data.params["seed"] == "3"
    assert found.data.tags["data_fingerprint"] == logged.record().data_fingerprint
    assert found.data.tags["mlflow.source.git.commit"] == logged.record().commit
    assert found.data.metrics["int8/accuracy"] > 0.5
    assert {"float/recall/fear", "int8/calibration_error", "mmac"} <= found.data.metrics.keys()
    assert curves(client, logged) == whole_curves(4)
    assert artifacts(client, logged) == {
        "run.json",
        "float_confusion.png",
        "float_reliability.png",
        "int8_confusion.png",
        "int8_reliability.png",
        "tiny_int8.tflite",
    }


@pytest.mark.usefixtures("client")
def test_model_of_mlflow_predicts_alike(logged: Run, dataset: Dataset) -> None:
    model = mlflow.pyfunc.load_model(f"runs:/{logged.mlflow_run_id}/model")
    assert model.metadata.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 48, 48, 1)
    faces = dataset.validation.images[:8]
    predictions = model.predict(faces[..., np.newaxis].astype(np.float32))
    np.testing.assert_allclose(predictions, keras_logits(logged.best_model(), faces), atol=1e-4)


def test_track_logs_the_data_of_a_run(client: MlflowClient, logged: Run) -> None:
    track(logged)
    (logged_input,) = client.get_run(id_of(logged)).inputs.dataset_inputs
    record = logged.record()
    assert logged_input.dataset.name == "sheets"
    assert logged_input.dataset.digest == record.data_fingerprint[:32]
    assert json.loads(logged_input.dataset.source) == {"uri": record.data_source}
    assert json.loads(logged_input.dataset.profile) == {"training": 448, "validation": 140}
    assert [tag.value for tag in logged_input.tags] == ["training"]


def test_tracking_again_logs_nothing_twice(client: MlflowClient, logged: Run) -> None:
    before = client.get_run(id_of(logged))
    assert track(logged) == before.info.run_id
    after = client.get_run(id_of(logged))
    assert curves(client, logged) == whole_curves(4)
    assert len(client.get_metric_history(id_of(logged), "int8/accuracy")) == 1
    assert len(after.outputs.model_outputs) == 1
    assert after.info.end_time == before.info.end_time


def test_bundle_names_the_mlflow_run(logged: Run, place: Path, tmp_path: Path) -> None:
    data = ["--data", str(place / "sheets")]
    assert main(["bundle", str(logged.folder), "--out", str(tmp_path), *data]) == 0
    assert read_bundle(tmp_path).members[0].provenance.mlflow_run_id == id_of(logged)
    assert id_of(logged) in (tmp_path / "README.md").read_text()


def test_track_adds_later_results(client: MlflowClient, run: Run) -> None:
    hidden = run.int8_path.rename(run.folder / "hidden")
    run_id = track(run)
    assert not any("int8" in path for path in artifacts(client, run))
    hidden.rename(run.int8_path)
    assert track(run) == run_id
    assert {"int8_confusion.png", "tiny_int8.tflite"} <= artifacts(client, run)
    assert len(client.get_run(id_of(run)).outputs.model_outputs) == 1


def test_run_that_is_a_teacher_by_now_is_logged(client: MlflowClient, run: Run) -> None:
    run_id = track(run)
    record = run.record()
    teacher = record.recipe.model_copy(update={"bundled": not record.recipe.bundled})
    run.begin(record.model_copy(update={"recipe": teacher}))
    assert track(run) == run_id
    params = client.get_run(run_id).data.params
    assert params["bundled"] == str(record.recipe.bundled)


class Killed(BaseException):
    pass


def die_in_the_third(_self: Progress, epoch: int, _step: int, _loss: float) -> None:
    if epoch == 3:
        raise Killed


def test_resumed_training_continues_its_mlflow_run(
    client: MlflowClient,
    tmp_path: Path,
    dataset: Dataset,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(tmp_path / "run")
    monkeypatch.setattr(Progress, "step", die_in_the_third)
    with pytest.raises(Killed):
        Trainer(recipe, dataset, run).run(partial(Tracker().after_epoch, run))
    killed = client.get_run(id_of(run))
    assert killed.info.status == "RUNNING"
    assert curves(client, run) == whole_curves(2)

    monkeypatch.setattr(Progress, "step", lambda *_: None)
    tracker = Tracker()
    Trainer(recipe, dataset, run).run(partial(tracker.after_epoch, run))
    tracker.finish(run, dataset)
    assert id_of(run) == killed.info.run_id
    assert client.get_run(id_of(run)).info.status == "FINISHED"
    assert curves(client, run) == whole_curves(3)
    points = client.get_metric_history(id_of(run), "epoch/learning_rate")
    assert [point.value for point in points] == pytest.approx([0.0905, 0.0345, 0.0], abs=1e-4)


def test_ladder_logs_an_early_stop_as_finished(
    client: MlflowClient, place: Path, tmp_path: Path
) -> None:
    recipe = (place / "tiny.toml").read_text().replace("epochs = 4", "epochs = 60\npatience = 1")
    (tmp_path / "early.toml").write_text(recipe)
    folders = {"--data": place / "sheets", "--work": tmp_path / "work", "--out": tmp_path / "out"}
    options = [str(part) for pair in folders.items() for part in pair]
    assert main(["ladder", str(tmp_path / "early.toml"), *options]) == 0
    run = Run(tmp_path / "work" / "early")
    assert client.get_run(id_of(run)).info.status == "FINISHED"
    assert curves(client, run) == whole_curves(len(run.history))
    assert {"float_confusion.png", "early_int8.tflite"} <= artifacts(client, run)
    assert read_bundle(tmp_path / "out").members[0].provenance.mlflow_run_id == id_of(run)


def test_unreachable_store_is_reported_once_and_filled_later(
    client: MlflowClient,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(tmp_path / "run")
    data = ["--data", str(place / "sheets")]
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("MLFLOW_TRACKING_URI", AWAY)
        assert main(["train", str(place / "tiny.toml"), "--run", str(run.folder), *data]) == 0
        error = capsys.readouterr().err
        assert error.count(AWAY) == error.count("\n") == 1
        assert f"emotion-trainer track {run.folder}" in error  # the command that logs it later
        assert run.mlflow_run_id is None
        assert main(["track", str(run.folder)]) == 1
        assert AWAY in capsys.readouterr().err

    assert main(["track", str(run.folder)]) == 0
    assert curves(client, run) == whole_curves(4)


@pytest.mark.usefixtures("client")
def test_run_of_another_store_is_logged_again(run: Run) -> None:
    run.store_mlflow_run_id("0" * 32)
    assert track(run, curves_only=True) == run.mlflow_run_id != "0" * 32


@pytest.mark.usefixtures("client")
def test_folder_without_a_run_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_store_is_next_to_the_runs_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store_uri(Run(tmp_path / "a")) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    assert store_uri(Run(tmp_path / "a")) == "databricks"


def test_empty_variable_switches_tracking_off(run: Run) -> None:
    assert track(run) is None
    assert run.mlflow_run_id is None
