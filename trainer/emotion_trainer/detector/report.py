"""The figures of a detector, and by what its recall falls."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion_trainer.detector.calibration import USUAL
from emotion_trainer.detector.data import DetectorData
from emotion_trainer.detector.evaluation import Judged, average_precision, judge_pictures
from emotion_trainer.detector.predictions import Finder
from emotion_trainer.detector.recipe import SceneSettings
from emotion_trainer.detector.validation import empty_scenes, validation_scenes

SIZES: Final = (0.0, 16.0, 32.0, 64.0, 128.0, np.inf)
TILTS: Final = (0.0, 10.0, 20.0, np.inf)
COVERS: Final = (0.0, 0.01, 0.15, np.inf)


@dataclass(frozen=True)
class Group:
    """Faces that have something in common, and the part of them that is found."""

    name: str
    faces: int
    recall: float


@dataclass(frozen=True)
class Report:
    """What a detector does on held-out scenes; at the daemon's usual least score where it matters.

    Attributes:
        judged: what it found in scenes with faces.
        scenes: how many scenes these were.
        imagined: float32: the scores of all that it found in scenes without a face.
        empty: how many these were.
    """

    judged: Judged
    scenes: int
    imagined: NDArray[np.float32]
    empty: int

    @property
    def average_precision(self) -> float:
        """At an intersection over union of 0.5, over all scores."""
        return average_precision(self.judged)

    @property
    def recall(self) -> float:
        """The part of the faces that is found."""
        return float((self.judged.found >= USUAL).mean())

    @property
    def precision(self) -> float:
        """The part of what is found that is a face."""
        right = self.judged.right[self.judged.scores >= USUAL]
        return float(right.mean()) if len(right) else 0.0

    @property
    def false_positives(self) -> float:
        """How many faces it sees in a scene that has none."""
        return float((self.imagined >= USUAL).sum() / self.empty)

    @property
    def landmark_error(self) -> float:
        """Mean distance of the landmarks of the faces that are found, in parts of their size."""
        errors = self.judged.landmark_errors[self.judged.found >= USUAL]
        known = errors[np.isfinite(errors)]
        return float(known.mean()) if len(known) else 0.0

    def groups(self) -> dict[str, list[Group]]:
        """Recall by what makes faces hard to find."""
        truth = self.judged.truth
        return {
            "size in pixels": self._by(truth.sizes, SIZES),
            "tilt in degrees": self._by(np.abs(truth.tilt), TILTS),
            "covered part": self._by(truth.covered, COVERS),
        }

    def _by(self, values: NDArray[np.float32], borders: tuple[float, ...]) -> list[Group]:
        groups = []
        for low, high in pairwise(borders):
            found = self.judged.found[(values >= low) & (values < high)] >= USUAL
            name = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
            groups.append(Group(name, len(found), float(found.mean()) if len(found) else 0.0))
        return groups

    def __str__(self) -> str:
        """Markdown, for a terminal or a model card."""
        lines = [
            f"{self.scenes} scenes with {len(self.judged.found)} faces: average precision "
            f"{self.average_precision:.4f}; at a score of {USUAL:g} recall {self.recall:.4f}, "
            f"precision {self.precision:.4f}, landmark error {self.landmark_error:.4f}",
            f"{self.empty} scenes without a face: {self.false_positives:.4f} found in each",
        ]
        for name, groups in self.groups().items():
            lines += ["", f"| {name} | faces | recall |", "| --- | ---: | ---: |"]
            lines += [f"| {g.name} | {g.faces} | {g.recall:.3f} |" for g in groups]
        return "\n".join(lines)


def measure(find: Finder, data: DetectorData, settings: SceneSettings) -> Report:
    """Measure on scenes of held-out material."""
    scenes = validation_scenes(data.validation, settings)
    empty = empty_scenes(data.validation, settings)
    imagined = [detection.score for found in find(empty) for detection in found]
    return Report(
        judge_pictures(find([scene.image for scene in scenes]), [scene.faces for scene in scenes]),
        len(scenes),
        np.array(imagined, np.float32),
        len(empty),
    )
