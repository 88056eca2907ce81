"""Training the detector by a recipe, with PyTorch."""

import math
import time
from pathlib import Path
from typing import Final

import cv2
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
from emotion_trainer.detector.learner import Learner
from emotion_trainer.detector.network_torch import (
    Network,
    load_weights,
)
from emotion_trainer.detector.objective import detection_losses
from emotion_trainer.detector.predictions import outputs_finder
from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.detector.runs import DetectorRecord, DetectorRun
from emotion_trainer.detector.scenes import SceneMaker
from emotion_trainer.errors import TrainingError
from emotion_trainer.models.families import cost
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.progress import Progress
from emotion_trainer.training.provenance import current_commit
from emotion_trainer.training.stopping import best_of, is_over

MAX_VALIDATION_PHOTOS: Final = 120
MINED_FROM: Final = 256
MINED: Final = 64
"""Backgrounds that are searched for false positives, and those of them that are shown again."""


class DetectorTrainer:
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
        self._recipe = recipe
        self._settings = recipe.optimisation
        self._run = run
        self._steps = max(1, recipe.scenes.epoch // self._settings.batch)
        initial = Network(recipe.network)
        if weights is not None:
            load_weights(initial, weights)
        self._learner = Learner(initial, self._settings, self._steps)
        self._record = DetectorRecord(
            recipe=recipe,
            data_fingerprint=data.fingerprint,
            commit=current_commit(),
            weights_sha256=None if weights is None else sha256_of(weights),
        )
        self._maker = SceneMaker(data.training, recipe.scenes)
        # Frames of a camera show surroundings, and close-ups are easy.
        wide = sorted(data.calibration, key=lambda p: float(p.faces.sizes.max(initial=0.0)))
        self._validation = wide[:MAX_VALIDATION_PHOTOS]
        self._history: tuple[Epoch, ...] = ()

    def summary(self) -> str:
        """The network's size and cost, in a line."""
        side = self._recipe.scenes.side
        sized = network.build(self._recipe.network, (side, side))
        return (
            f"{self._recipe.name}: {cost.mmac(sized):.1f} MMAC at {side}x{side}, "
            f"{cost.parameters(sized)} parameters"
        )

    def run(self) -> Epoch:
        """Train to the recipe's last epoch and return the best one, whose weights are kept.

        Continues from the folder's checkpoint if there is one.

        Raises:
            TrainingError: the loss is not finite, or the checkpoint is of another training.
        """
        self._run.begin(self._record)
        self._history = self._learner.resume(self._run.checkpoint)
        # One thread makes the scenes; OpenCV's own threads would compete with the training.
        cv2.setNumThreads(1)
        progress = Progress(self._settings.epochs, self._steps, "average precision")
        while not is_over(self._history, self._settings.epochs):
            started = time.monotonic()
            number = len(self._history) + 1
            loss = self._train_epoch(number, progress)
            precision = self._average_precision()
            self._keep(Epoch(number, loss, precision, time.monotonic() - started))
            progress.epoch(self._history[-1], best_of(self._history))
        return best_of(self._history)

    def _train_epoch(self, epoch: int, progress: Progress) -> float:
        """Take all steps of an epoch, counted from 1; returns the mean loss."""
        seed = (self._recipe.seed, epoch)
        rng = np.random.default_rng([*seed, self._steps])
        mined = self._mine(rng) if epoch > 1 else []
        batch, total = self._settings.batch, 0.0
        self._learner.network.train()
        batches = epoch_batches(self._maker, mined, seed, batch, self._steps)
        for number, (images, faces) in enumerate(batches):
            outputs = self._learner.network(_channels_last(images))
            loss = detection_losses(outputs, faces, images.shape[1]).total
            self._learner.step(loss, (epoch - 1) * self._steps + number)
            total += loss.item()
            if not math.isfinite(total):
                raise TrainingError(
                    f"optimisation.learning_rate: the loss of epoch {epoch}, step {number} is not "
                    f"finite (got {self._settings.learning_rate}); lower it"
                )
            progress.step(epoch, number + 1, total / (number + 1))
        return total / self._steps

    def _mine(self, rng: np.random.Generator) -> list[Image]:
        """Hard negatives (Sung & Poggio 1998): backgrounds with the most certain detections."""
        fresh = np.stack([self._maker.background(rng) for _ in range(MINED_FROM)])
        images, batch = fresh[..., np.newaxis].astype(np.float32), self._settings.batch
        outputs = [self._predict(images[i : i + batch]) for i in range(0, MINED_FROM, batch)]
        worst = np.argsort(-np.concatenate(outputs)[..., 0].max(axis=1))[:MINED]
        return list(fresh[worst])

    @torch.no_grad()
    def _predict(self, images: Floats) -> Floats:
        """The outputs of the averaged network for images [N, H, W, 1]."""
        outputs: Floats = self._learner.average(_channels_last(images)).numpy()
        return outputs

    def _average_precision(self) -> float:
        """The averaged network's, on whole calibration photos."""
        return average_precision(match_photos(outputs_finder(self._predict), self._validation))

    def _keep(self, epoch: Epoch) -> None:
        self._history += (epoch,)
        if best_of(self._history) is epoch:
            self._learner.keep_average(self._run, network.build(self._recipe.network))
        self._learner.save(self._run.checkpoint, self._history)


def _channels_last(images: Floats) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)
