"""The copy of a run's folder in MLflow: parameters, curves, figures, plots and models.

Curves are compared step by step with those in the store. Everything else has a tag with a checksum
of its source, and is logged again only when that has changed.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import keras
import mlflow
import mlflow.tensorflow
import numpy as np
import tensorflow as tf
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param
from mlflow.entities import Run as TrackedRun
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from edge_daemon._lib.files import sha256_of
from edge_daemon.records import CROP_SIDE
from emotion_trainer.evaluation.predictions import Predictions
from emotion_trainer.recipe import Optimisation
from emotion_trainer.tracking import plots
from emotion_trainer.tracking.summary import Summary, finished_epochs, summarise
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.optimiser import learning_rate
from emotion_trainer.training.provenance import RunRecord
from emotion_trainer.training.runs import Run

EXPERIMENT: Final = "edge-daemon"
EXPERIMENT_VARIABLE: Final = "MLFLOW_EXPERIMENT_NAME"
DATABASE: Final = "sqlite:///"
DIGEST_LENGTH: Final = 32
"""Characters of a data set's fingerprint that MLflow stores."""
MID_GREY: Final = 128.0
# The learning rate depends on the share of the steps that are done, not on their number.
STEPS: Final = 1000


class MlflowCopy:
    """A run's copy in a store, created if it does not exist.

    Each method raises MlflowException, or another error of the store, if the store cannot be
    reached or refuses.
    """

    def __init__(self, run: Run, uri: str) -> None:
        self._run = run
        self._uri = uri
        self._record = run.record()
        self._history = finished_epochs(run)
        self._client = MlflowClient(uri)
        self._known = self._find() or self._create()
        self._id: str = self._known.info.run_id

    def update(self, *, curves_only: bool) -> str:
        """Log what the store lacks and return the run's id."""
        self._log_recipe()
        self._log_data()
        self._log_curves()
        if not curves_only:
            self._log_results(summarise(self._run))
            self._close()
        return self._id

    def _find(self) -> TrackedRun | None:
        run_id = self._run.mlflow_run_id
        if run_id is None:
            return None
        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None  # it was logged to another store
            raise

    def _create(self) -> TrackedRun:
        spent = sum(epoch.seconds for epoch in self._history)
        created = self._client.create_run(
            self._experiment(),
            start_time=self._last_epoch_ended() - round(1000 * spent),
            run_name=self._record.recipe.name,
            tags=_tags(self._record),
        )
        self._run.store_mlflow_run_id(created.info.run_id)
        return created

    def _experiment(self) -> str:
        name = os.environ.get(EXPERIMENT_VARIABLE) or EXPERIMENT
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        return str(self._client.create_experiment(name, _artifacts_folder(self._uri)))

    def _log_recipe(self) -> None:
        text = self._record.model_dump_json(indent=2)

        def log() -> None:
            settings = _flat(self._record.recipe.model_dump(mode="json", exclude_none=True))
            # MLflow never changes a parameter, but `bundled` can change: the file is current.
            known = self._known.data.params
            new = [Param(*item) for item in settings if item[0] not in known]
            self._client.log_batch(self._id, params=new)
            self._client.log_text(self._id, text, "run.json")

        self._once("recipe", hashlib.sha256(text.encode()).hexdigest(), log)

    def _log_data(self) -> None:
        """Log what the run was trained on, which MLflow shows in the column "Dataset"."""
        record = self._record
        path = Path(record.data_source)
        dataset = Dataset(
            name=path.name or "faces",
            digest=record.data_fingerprint[:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": path.as_posix()}),
            profile=json.dumps(
                {"training": record.training_faces, "validation": record.validation_faces}
            ),
        )
        inputs = [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])]
        self._once(
            "data", record.data_fingerprint, partial(self._client.log_inputs, self._id, inputs)
        )

    def _log_curves(self) -> None:
        for name, values in _curves(self._history, self._record.recipe.optimisation).items():
            there = {point.step for point in self._client.get_metric_history(self._id, name)}
            curve = zip(self._history, self._ends(), values, strict=True)
            points = [Metric(name, value, end, epoch.number) for epoch, end, value in curve]
            missing = [point for point in points if point.step not in there]
            self._client.log_batch(self._id, metrics=missing)

    def _ends(self) -> list[int]:
        """When each epoch ended, in milliseconds, had the training never been interrupted."""
        spent = accumulate(epoch.seconds for epoch in self._history)
        return [self._known.info.start_time + round(1000 * seconds) for seconds in spent]

    def _last_epoch_ended(self) -> int:
        return round(1000 * self._run.checkpoint.stat().st_mtime)

    def _log_results(self, summary: Summary) -> None:
        now = round(1000 * time.time())
        there = self._known.data.metrics
        figures = _figures(summary).items()
        changed = [
            Metric(name, value, now, 0) for name, value in figures if there.get(name) != value
        ]
        self._client.log_batch(self._id, metrics=changed)
        for kind, predictions in summary.predictions.items():
            draw = partial(self._log_plots, kind, predictions)
            self._once(f"{kind}_plots", predictions.model_sha256, draw)
        logs = {"float": self._log_model, "int8": self._log_int8}
        for kind, path in self._run.models().items():
            self._once(f"{kind}_model", sha256_of(path), logs[kind])

    def _log_plots(self, kind: str, predictions: Predictions) -> None:
        for name, figure in plots.of_predictions(predictions).items():
            self._client.log_figure(self._id, figure, f"{kind}_{name}.png")

    def _log_int8(self) -> None:
        self._client.log_artifact(self._id, str(self._run.int8_path))

    def _log_model(self) -> None:
        model = self._run.best_model()
        face = np.full((1, CROP_SIDE, CROP_SIDE, 1), MID_GREY, np.float32)
        logged = self._client.create_logged_model(
            self._known.info.experiment_id, name="model", source_run_id=self._id
        )
        with tempfile.TemporaryDirectory() as folder:
            saved = str(Path(folder, "model"))
            mlflow.tensorflow.save_model(
                model,
                saved,
                mlflow_model=Model(run_id=self._id, model_id=logged.model_id),
                signature=infer_signature(face, model.predict(face, verbose=0)),
                input_example=face,
                pip_requirements=[f"keras=={keras.__version__}", f"tensorflow=={tf.__version__}"],
            )
            self._client.log_model_artifacts(logged.model_id, saved)
        self._client.finalize_logged_model(logged.model_id, "READY")
        self._client.log_outputs(self._id, [LoggedModelOutput(logged.model_id, step=0)])

    def _once(self, what: str, made_from: str, log: Callable[[], None]) -> None:
        tag = f"logged.{what}"
        if self._known.data.tags.get(tag) != made_from:
            log()
            self._client.set_tag(self._id, tag, made_from)

    def _close(self) -> None:
        if self._run.is_finished and self._known.info.status != "FINISHED":
            self._client.set_terminated(self._id, "FINISHED", self._last_epoch_ended())


def _tags(record: RunRecord) -> dict[str, str]:
    return {
        "family": record.recipe.model.family,
        "data_fingerprint": record.data_fingerprint,
        "mlflow.source.git.commit": record.commit,
        "mlflow.source.name": "emotion-trainer",
    }


def _flat(settings: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{parent}{key}.")
        else:
            yield parent + key, str(value)


def _curves(history: tuple[Epoch, ...], settings: Optimisation) -> dict[str, list[float]]:
    rate = learning_rate(settings, STEPS)
    return {
        "epoch/loss": [epoch.loss for epoch in history],
        "epoch/accuracy": [epoch.score for epoch in history],
        "epoch/seconds": [epoch.seconds for epoch in history],
        "epoch/learning_rate": [float(rate(epoch.number * STEPS)) for epoch in history],
    }


def _figures(summary: Summary) -> dict[str, float]:
    figures: dict[str, float | None] = {
        "best_accuracy": summary.best.score,
        "best_epoch": summary.best.number,
        "minutes": summary.seconds / 60,
        "mmac": summary.mmac,
        "parameters": summary.parameters,
    }
    for kind, predictions in summary.predictions.items():
        metrics = predictions.metrics
        figures[f"{kind}/accuracy"] = metrics.accuracy
        figures[f"{kind}/calibration_error"] = metrics.calibration_error
        figures |= {f"{kind}/recall/{name}": share for name, share in metrics.recall.items()}
    return {name: value for name, value in figures.items() if value is not None}


def _artifacts_folder(uri: str) -> str | None:
    """A database file has its artifacts in a folder next to it; other stores have their own."""
    if not uri.startswith(DATABASE):
        return None
    return Path(uri.removeprefix(DATABASE)).resolve().with_name("mlartifacts").as_uri()
