"""Tracking in MLflow: which store, and when a run is logged there.

A run's folder is authoritative, and MLflow has a copy, which `track` updates. So nothing is lost if
a store cannot be reached, or if a run was never logged: it is logged later.
"""

import logging
import os
import sys
import textwrap
from typing import Final

from edge_daemon._lib.text import without_password
from emotion_trainer.data import Dataset
from emotion_trainer.errors import TrackingError, TrainerError
from emotion_trainer.evaluation.predictions import store_predictions
from emotion_trainer.training.runs import Run

STORE_VARIABLE: Final = "MLFLOW_TRACKING_URI"
MAX_REASON: Final = 160

# Variables that the user sets stay. By default, MLflow retries an unreachable server for minutes.
MLFLOW_DEFAULTS: Final = {
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Tracker:
    """Logs runs while they are trained; a store that fails does not stop a training."""

    def __init__(self) -> None:
        self._failed = False

    def after_epoch(self, run: Run) -> None:
        """Log the curves so far, unless the store failed in an earlier epoch."""
        if not self._failed:
            self._try(run, curves_only=True)

    def finish(self, run: Run, dataset: Dataset) -> None:
        """Log all results of a run, its models' predictions for the validation split included.

        Raises:
            TrainerError: the run's folder is damaged.
        """
        store_predictions(run, dataset)
        self._try(run)
        self._failed = False

    def _try(self, run: Run, *, curves_only: bool = False) -> None:
        try:
            track(run, curves_only=curves_only)
        except TrackingError as error:
            if not self._failed:
                print(
                    f"{error}; 'emotion-trainer track {run.folder}' logs it later", file=sys.stderr
                )
            self._failed = True


def store_uri(run: Run) -> str | None:
    """Where the run is tracked: $MLFLOW_TRACKING_URI, or a database next to the run's folder.

    Returns:
        None if the variable is empty, which switches tracking off.
    """
    database = run.folder.resolve().parent / "mlflow.db"
    return os.environ.get(STORE_VARIABLE, f"sqlite:///{database}") or None


def track(run: Run, *, curves_only: bool = False) -> str | None:
    """Update the run's copy in MLflow; what it has is not logged again.

    Returns:
        The run's id there; None if tracking is switched off.

    Raises:
        TrackingError: the store cannot be reached, or refuses.
        TrainerError: the run's folder is damaged.
    """
    uri = store_uri(run)
    if uri is None:
        return None
    for variable, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(variable, value)
    for library in ("databricks", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        from emotion_trainer.tracking.mlflow_copy import MlflowCopy

        return MlflowCopy(run, uri).update(curves_only=curves_only)
    except TrainerError:
        raise
    except Exception as error:
        # Stores are databases, cloud services and plugins, each with errors of their own.
        place = without_password(uri)
        reason = str(_root(error)).replace(uri, place)
        raise TrackingError(
            f"{run.folder}: not tracked in {place}: "
            f"{textwrap.shorten(reason, MAX_REASON, placeholder=' …')}"
        ) from error


def _root(error: BaseException) -> BaseException:
    """The first error in a chain of causes."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
