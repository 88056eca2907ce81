"""Accuracy of the ensemble against its time budget."""

import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import public_test
from benchmarks.progress import report
from benchmarks.results import Anytime, BudgetPoint, MembersPoint, Stamp
from edge_daemon._lib.clock import SystemClock
from edge_daemon.config.settings import SheddingSettings
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.inference.step import EmotionRecognizer, TimeBudget
from edge_daemon.records import (
    Box,
    Detection,
    Face,
    FaceEmotion,
    Frame,
    Image,
    TrackedFace,
    TrackedFaces,
)

BUDGETS: Final = 16
CALLS: Final = 50
"""Faces that are timed in one round."""


class ProcessorClock(SystemClock):
    """Counts this process's own time, so that others on the machine do not use up the budget."""

    def monotonic(self) -> float:
        return time.process_time()


def measure(bundle: Path, data: Path, rounds: int) -> Anytime:
    """Accuracy on PublicTest by the number of members, and by the daemon's time budget.

    Times are those of one thread with one face a frame.

    Args:
        bundle: the models.
        data: the folder of FER2013.
        rounds: of timing; numbers of members take turns.
    """
    stamp = Stamp.of_now()
    faces, emotions = public_test.load(data)
    ensemble = EmotionEnsemble.load(bundle)
    members = _members(ensemble, faces, emotions, rounds)
    budgets = np.linspace(0.75 * members[0].ms, 1.25 * members[-1].ms, BUDGETS)
    return Anytime(
        stamp=stamp,
        faces=len(faces),
        members=tuple(members),
        budgets=tuple(_budget(ensemble, faces, emotions, float(ms)) for ms in budgets),
    )


def _members(
    ensemble: EmotionEnsemble, faces: Image, emotions: NDArray[np.int64], rounds: int
) -> list[MembersPoint]:
    numbers = range(1, len(ensemble) + 1)
    cpu_times: dict[int, list[float]] = {number: [] for number in numbers}
    for turn in range(rounds):
        report(f"anytime: round {turn + 1} of {rounds}")
        for number in numbers:
            cpu_times[number].append(_milliseconds(ensemble, faces, number))
    cost = np.cumsum([member.mmac for member in ensemble.bundle.members])
    return [
        MembersPoint(
            members=number,
            mmac=round(float(cost[number - 1]), 2),
            ms=round(median(cpu_times[number]), 3),
            accuracy=_accuracy(ensemble.predict(faces, number), emotions),
        )
        for number in numbers
    ]


def _milliseconds(ensemble: EmotionEnsemble, faces: Image, members: int) -> float:
    """Of processor time a face."""
    ensemble.predict(faces[:1], members)
    began = time.process_time()
    for number in range(CALLS):
        ensemble.predict(faces[number : number + 1], members)
    return 1000 * (time.process_time() - began) / CALLS


def _accuracy(probabilities: NDArray[np.float32], emotions: NDArray[np.int64]) -> float:
    return round(float((probabilities.argmax(axis=1) == emotions).mean()), 4)


def _budget(
    ensemble: EmotionEnsemble, faces: Image, emotions: NDArray[np.int64], milliseconds: float
) -> BudgetPoint:
    """All faces, one after another, through the daemon's own step with its own budget."""
    report(f"anytime: budget of {milliseconds:.2f} ms")
    mmac = [member.mmac for member in ensemble.bundle.members]
    budget = TimeBudget(mmac, SheddingSettings(), milliseconds / 1000, ProcessorClock())
    recognizer = EmotionRecognizer(ensemble, budget)
    began = time.process_time()
    answers = [_answer(recognizer, crop) for crop in faces]
    elapsed = time.process_time() - began
    return BudgetPoint(
        budget_ms=round(milliseconds, 3),
        members=round(fmean(answer.members for answer in answers), 3),
        ms=round(1000 * elapsed / len(faces), 3),
        accuracy=_accuracy(np.array([answer.raw for answer in answers]), emotions),
    )


def _answer(recognizer: EmotionRecognizer, crop: Image) -> FaceEmotion:
    frame = Frame(0, 0, crop, datetime.now(UTC), 0.0, 0.0)
    face = Face(Detection(Box(0, 0, *crop.shape), 1.0), crop, None)
    (answer,) = recognizer(TrackedFaces(frame, (TrackedFace(1, face),), frozenset())).faces
    return answer
