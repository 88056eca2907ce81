"""What it saves, and what it changes, to look for faces in some frames only."""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Final

import cv2

from benchmarks.cases import Case
from benchmarks.frames import follower_of, frames_of
from benchmarks.progress import report
from benchmarks.results import Following, FollowingPoint, Stamp
from benchmarks.settings import settings_of
from edge_daemon.commands.bench import ObservedDetector
from edge_daemon.config.settings import Settings
from edge_daemon.detection import detector_from_settings
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.inference.step import EmotionRecognizer, Smoother
from edge_daemon.records import FaceEmotion

EVERY: Final = (1, 2, 3, 5, 8)
"""Values of `detection.interval` to measure; the first is the baseline."""


def measure(clips: Sequence[Path], bundle: Path, detector: str) -> Following:
    """Whole clips, one after another, with one thread."""
    stamp = Stamp.of_now()
    cv2.setNumThreads(1)
    runs = {every: _Run() for every in EVERY}
    for clip, (every, run) in itertools.product(clips, runs.items()):
        report(f"following: {clip.name}, faces looked for in 1 of {every} frames")
        case = Case(str(clip), detector, str(bundle), threads=1, frames=0, warmup=0, every=every)
        run.play(settings_of(case))
    reference = runs[EVERY[0]]
    return Following(
        stamp=stamp,
        detector=detector,
        frames=len(reference.results),
        points=tuple(_point(every, run, reference) for every, run in runs.items()),
    )


@dataclass
class _Run:
    """All clips with one setting."""

    results: list[dict[int, FaceEmotion]] = field(default_factory=list)
    """Of each frame, the faces by their tracks."""
    looks: int = 0
    seconds: float = 0.0
    """Of processor time, until the crops are cut."""

    def play(self, settings: Settings) -> None:
        detector = ObservedDetector(detector_from_settings(settings), self._count_look)
        follower = follower_of(settings, detector)
        recognizer = EmotionRecognizer(EmotionEnsemble.load(settings.inference.bundle))
        smoother = Smoother(settings.smoothing)
        for frame in frames_of(settings):
            began = time.process_time()
            tracked = follower(frame)
            self.seconds += time.process_time() - began
            faces = smoother(recognizer(tracked)).faces
            self.results.append({face.track_id: face for face in faces})

    def _count_look(self) -> None:
        self.looks += 1


def _point(every: int, run: _Run, reference: _Run) -> FollowingPoint:
    both = [
        (found[track], looked[track])
        for found, looked in zip(run.results, reference.results, strict=True)
        for track in found.keys() & looked.keys()
    ]
    return FollowingPoint(
        every=every,
        looks=round(run.looks / len(run.results), 3),
        cpu_ms=round(1000 * run.seconds / len(run.results), 3),
        faces=sum(map(len, run.results)),
        displacement=round(fmean(_displacement(*pair) for pair in both), 4),
        agreement=round(fmean(one.emotion == other.emotion for one, other in both), 4),
    )


def _displacement(one: FaceEmotion, other: FaceEmotion) -> float:
    here, there = one.face.detection.box, other.face.detection.box
    return math.dist(here.centre, there.centre) / math.sqrt(there.width * there.height)
