"""The folder of a detector's training and its record."""

from pathlib import Path

from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.training.provenance import AnyRecord
from emotion_trainer.training.runs import AnyRun


class DetectorRecord(AnyRecord):
    """The settings and data of a detector's training."""

    recipe: DetectorRecipe


class DetectorRun(AnyRun[DetectorRecord]):
    """The folder of one detector's training."""

    record_type = DetectorRecord
    checkpoint_name = "checkpoint.pt"

    @property
    def weights(self) -> Path:
        """The averaged weights of the best epoch, from which another training may start."""
        return self.folder / "weights.npz"
