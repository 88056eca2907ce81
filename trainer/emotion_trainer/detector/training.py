"""Training the detector by a recipe."""

from functools import partial

import cv2
import keras
import numpy as np

from emotion_trainer.detector import network
from emotion_trainer.detector.batches import epoch_batches
from emotion_trainer.detector.data import DetectorData
from emotion_trainer.detector.evaluation import average_precision, judge_pictures
from emotion_trainer.detector.loss import detection_loss
from emotion_trainer.detector.mining import mine
from emotion_trainer.detector.predictions import keras_finder
from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.detector.runs import DetectorRecord, DetectorRun
from emotion_trainer.detector.scenes import SceneMaker
from emotion_trainer.detector.validation import validation_scenes
from emotion_trainer.epochs import Batches, EpochLoop
from emotion_trainer.families import cost
from emotion_trainer.provenance import current_commit


class DetectorTrainer(EpochLoop[DetectorRecord]):
    """The training of a detector; it is validated on scenes of held-out photos and crops."""

    measure = "average precision"

    def __init__(self, recipe: DetectorRecipe, data: DetectorData, run: DetectorRun) -> None:
        batch = recipe.optimisation.batch
        super().__init__(
            DetectorRecord(
                recipe=recipe, data_fingerprint=data.fingerprint, commit=current_commit()
            ),
            run,
            partial(network.build, recipe.network),
            detection_loss,
            max(1, recipe.scenes.epoch // batch),
        )
        self._recipe = recipe
        self._maker = SceneMaker(data.training, recipe.scenes)
        self._scenes = validation_scenes(data.validation, recipe.scenes)

    def summary(self) -> str:
        """The network's size and what it costs, in a line."""
        side = self._recipe.scenes.side
        sized = network.build(self._recipe.network, (side, side))
        return (
            f"{self._recipe.name}: {cost.mmac(sized):.1f} MMAC at {side}x{side}, "
            f"{cost.parameters(sized)} parameters"
        )

    def _prepare(self) -> None:
        # The scenes' threads are enough; OpenCV's own would compete with them.
        cv2.setNumThreads(1)

    def _batches(self, epoch: int) -> Batches:
        seed = (self._recipe.seed, epoch)
        mined = []
        if epoch > 1:
            self._averaged.set_weights(self._average.weights)
            mined = mine(self._averaged, self._maker, np.random.default_rng([*seed, self._steps]))
        batch = self._recipe.optimisation.batch
        return epoch_batches(self._maker, mined, seed, batch, self._steps)

    def _validate(self, model: keras.Model) -> float:
        found = keras_finder(model)([scene.image for scene in self._scenes])
        return average_precision(judge_pictures(found, [scene.faces for scene in self._scenes]))
