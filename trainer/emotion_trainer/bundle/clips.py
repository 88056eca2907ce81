"""How often the ensemble gives each answer to the faces in a clip, seen by the daemon itself.

Nobody has labelled a clip, so this is no accuracy. It shows what users of such programs meet
first: a model that calls whatever it sees neutral, or sad.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import EMOTIONS
from emotion_trainer.errors import DataError


@dataclass(frozen=True)
class ClipAnswers:
    """The answers to the faces of a clip; `counts` is int64 [7], over all of its frames."""

    clip: str
    counts: NDArray[np.int64]


def answers_in(clip: Path, bundle: Path, detector_model: Path | None) -> ClipAnswers:
    """Run the daemon over a clip, unsmoothed, with its default settings.

    Args:
        clip: a video file.
        bundle: the folder of the ensemble.
        detector_model: YuNet's ONNX file, or a cascade; without, the daemon chooses.

    Raises:
        DataError: the daemon could not run the clip.
    """
    command = [sys.executable, "-m", "edge_daemon", "run", "--config", os.devnull]
    command += ["--source", str(clip), "--sink", "jsonl", "--bundle", str(bundle)]
    command += ["--set", "smoothing.time_constant=0", "--log-level", "error"]
    command += [] if detector_model is None else ["--detector-model", str(detector_model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"{clip}: {done.stderr.strip().rpartition(chr(10))[2]}")
    faces = [face for line in done.stdout.splitlines() for face in json.loads(line)["faces"]]
    answers = [EMOTIONS.index(face["emotion"]) for face in faces if face["emotion"] is not None]
    return ClipAnswers(clip.name, np.bincount(answers, minlength=len(EMOTIONS)))
