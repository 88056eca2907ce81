"""The counts of predicted emotions in a clip, whose faces the daemon finds.

Clips have no labels, so this is no accuracy. It shows whether a model predicts neutral, or sad, for
most faces.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import EMOTIONS
from emotion_trainer.errors import DataError


@dataclass(frozen=True)
class ClipPredictions:
    """The predictions for the faces of a clip, over all of its frames.

    Attributes:
        clip: name of the file.
        prior: `none` or `camera`.
        counts: int64 [7].
    """

    clip: str
    prior: str
    counts: NDArray[np.int64]


PRIORS: Final = {"none": "none", "camera": "auto"}
"""`inference.prior` of the daemon, by the name in the card."""


def predictions_in(
    clip: Path, bundle: Path, detector_model: Path | None, prior: str = "camera"
) -> ClipPredictions:
    """Run the daemon over a clip, unsmoothed, otherwise with its default settings.

    Args:
        clip: a video file.
        bundle: the folder of the ensemble.
        detector_model: YuNet's ONNX file, or a cascade; None: the bundled detector.
        prior: a key of `PRIORS`.

    Raises:
        DataError: the daemon could not run the clip.
    """
    command = [sys.executable, "-m", "edge_daemon", "run", "--config", os.devnull]
    command += ["--source", str(clip), "--sink", "jsonl", "--bundle", str(bundle)]
    command += ["--set", "smoothing.time_constant=0", "--log-level", "error"]
    command += ["--set", f"inference.prior={PRIORS[prior]}"]
    command += [] if detector_model is None else ["--detector-model", str(detector_model)]
    # Settings of a daemon on this machine would change the predictions.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EDGE_DAEMON_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise DataError(f"{clip}: {done.stderr.strip().rpartition(chr(10))[2]}")
    faces = [face for line in done.stdout.splitlines() for face in json.loads(line)["faces"]]
    indices = [EMOTIONS.index(face["emotion"]) for face in faces if face["emotion"] is not None]
    return ClipPredictions(clip.name, prior, np.bincount(indices, minlength=len(EMOTIONS)))
