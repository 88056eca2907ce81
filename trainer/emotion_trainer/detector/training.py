"""Training the detector by a recipe, with PyTorch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import keras
import numpy as np
import torch
from torch import Tensor

from edge_daemon._lib.files import sha256_of
from edge_daemon.records import Image
from emotion_trainer.detector import network
from emotion_trainer.detector.batches import epoch_batches
from emotion_trainer.detector.data import DetectorData
from emotion_trainer.detector.evaluation import average_precision, match_photos
from emotion_trainer.detector.faces import Floats
from emotion_trainer.detector.learner import Learner, NetworkTrainer
from emotion_trainer.detector.network_torch import Network, as_tensor, load_weights, predict
from emotion_trainer.detector.objective import detection_losses
from emotion_trainer.detector.predictions import outputs_finder
from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.detector.runs import DetectorRecord, DetectorRun
from emotion_trainer.detector.scenes import SceneMaker
from emotion_trainer.models.families import cost
from emotion_trainer.training.provenance import current_commit

MAX_VALIDATION_PHOTOS: Final = 120
MINED_FROM: Final = 256
MINED: Final = 64
"""Backgrounds that are searched for false positives, and those of them that are shown again."""


class DetectorTrainer(NetworkTrainer[Network]):
    """The training of a detector, validated on whole calibration photos.

    Args:
        recipe: all settings of the training.
        data: the material to train on, and photos to validate on.
        run: the folder of its files.
        weights: the file to start from in place of random weights.

    Raises:
        TrainingError: the file is damaged, or of another network.
    """

    def __init__(
        self,
        recipe: DetectorRecipe,
        data: DetectorData,
        run: DetectorRun,
        weights: Path | None = None,
    ) -> None:
        torch.manual_seed(recipe.seed)
        initial = Network(recipe.network)
        if weights is not None:
            load_weights(initial, weights)
        record = DetectorRecord(
            recipe=recipe,
            data_fingerprint=data.fingerprint,
            commit=current_commit(),
            weights_sha256=None if weights is None else sha256_of(weights),
        )
        settings = recipe.optimisation
        steps = max(1, recipe.scenes.epoch // settings.batch)
        super().__init__(Learner(initial, settings, steps), run, record, settings, steps)
        self._recipe = recipe
        self._maker = SceneMaker(data.training, recipe.scenes)
        # Frames of a camera show surroundings, and close-ups are easy.
        wide = sorted(data.calibration, key=lambda p: float(p.faces.sizes.max(initial=0.0)))
        self._validation = wide[:MAX_VALIDATION_PHOTOS]

    def summary(self) -> str:
        """The network's size and cost, in a line."""
        side = self._recipe.scenes.side
        sized = network.build(self._recipe.network, (side, side))
        return (
            f"{self._recipe.name}: {cost.mmac(sized):.1f} MMAC at {side}x{side}, "
            f"{cost.parameters(sized)} parameters"
        )

    def _losses(self, epoch: int) -> Iterator[Tensor]:
        seed = (self._recipe.seed, epoch)
        mined = self._mine(np.random.default_rng([*seed, self._steps])) if epoch > 1 else []
        batches = epoch_batches(self._maker, mined, seed, self._settings.batch, self._steps)
        for images, faces in batches:
            outputs = self._learner.network(as_tensor(images))
            yield detection_losses(outputs, faces, images.shape[1]).total

    def _mine(self, rng: np.random.Generator) -> list[Image]:
        """Hard negatives (Sung & Poggio 1998): backgrounds with the most certain detections."""
        fresh = np.stack([self._maker.background(rng) for _ in range(MINED_FROM)])
        images, batch = fresh[..., np.newaxis].astype(np.float32), self._settings.batch
        outputs = [self._predict(images[i : i + batch]) for i in range(0, MINED_FROM, batch)]
        worst = np.argsort(-np.concatenate(outputs)[..., 0].max(axis=1))[:MINED]
        return list(fresh[worst])

    def _predict(self, images: Floats) -> Floats:
        """The outputs of the averaged network for images [N, H, W, 1]."""
        return predict(self._learner.average, images)

    def _average_precision(self) -> float:
        """The averaged network's, on whole calibration photos."""
        return average_precision(match_photos(outputs_finder(self._predict), self._validation))

    def _keras_network(self) -> keras.Model:
        return network.build(self._recipe.network)
