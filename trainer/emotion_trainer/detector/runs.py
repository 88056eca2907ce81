"""A detector's run: the same folder as an emotion model's, with a record of its own."""

from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.provenance import AnyRecord
from emotion_trainer.runs import AnyRun


class DetectorRecord(AnyRecord):
    """The origin of a detector."""

    recipe: DetectorRecipe


class DetectorRun(AnyRun[DetectorRecord]):
    """The folder of one detector's training."""

    record_type = DetectorRecord
