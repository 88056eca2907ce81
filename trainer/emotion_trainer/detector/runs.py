"""The folder of a detector's training and its record."""

from pathlib import Path
from typing import ClassVar, Self

from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.errors import TrainingError
from emotion_trainer.training.provenance import AnyRecord
from emotion_trainer.training.runs import AnyRun


class DetectorRecord(AnyRecord):
    """The settings and data of a detector's training.

    Attributes:
        recipe: the settings.
        weights_sha256: of the file of weights that the training started from, if any; of a
            verifier, of those of the search whose candidates it learns from.
    """

    DIFFERENCE: ClassVar[str] = "another recipe, other data or other --weights"

    recipe: DetectorRecipe
    weights_sha256: str | None = None

    def is_same_training(self, other: Self) -> bool:
        """Whether both have the same recipe, data and initial weights; the code may differ."""
        return super().is_same_training(other) and self.weights_sha256 == other.weights_sha256


class DetectorRun(AnyRun[DetectorRecord]):
    """The folder of one detector's training."""

    record_type = DetectorRecord
    checkpoint_name = "checkpoint.pt"

    @property
    def weights(self) -> Path:
        """The averaged weights of the best epoch, from which another training may start."""
        return self.folder / "weights.npz"

    def require_data(self, fingerprint: str) -> None:
        """Refuse other data than the training's, whose unseen parts it may have been trained on.

        Raises:
            TrainingError: the fingerprint is of other data, or the record is damaged.
        """
        if self.record().data_fingerprint != fingerprint:
            raise TrainingError(
                f"{self.folder}: trained on other photos or crops, maybe on those for calibration "
                "or test; give its --photos and --crops"
            )

    @property
    def verifier(self) -> "DetectorRun":
        """The training of the verifier for this run's search."""
        return DetectorRun(self.folder / "verifier")

    @property
    def verifier_int8_path(self) -> Path:
        """Where the verifier's int8 file is, or will be."""
        return self.int8_path_of(f"{self.record().recipe.name}_verifier")
