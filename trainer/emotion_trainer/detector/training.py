"""Training the detector by a recipe, with PyTorch."""

import copy
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

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
from emotion_trainer.detector.network_torch import (
    Network,
    load_weights,
    save_weights,
    transfer,
)
from emotion_trainer.detector.objective import detection_losses
from emotion_trainer.detector.predictions import outputs_finder
from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.detector.runs import DetectorRecord, DetectorRun
from emotion_trainer.detector.scenes import SceneMaker
from emotion_trainer.errors import TrainingError
from emotion_trainer.models.families import cost
from emotion_trainer.training.averaging import ema_momentum
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.progress import Progress
from emotion_trainer.training.provenance import current_commit
from emotion_trainer.training.stopping import best_of, is_over

MAX_GRADIENT_NORM: Final = 10.0
MIN_RATE: Final = 0.01
"""Part of the learning rate at the end."""
MAX_VALIDATION_PHOTOS: Final = 120
KERNEL_DIMENSIONS: Final = 4
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
        self._network = Network(recipe.network)
        for parameter in self._network.parameters():
            if parameter.ndim == KERNEL_DIMENSIONS:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        if weights is not None:
            load_weights(self._network, weights)
        self._record = DetectorRecord(
            recipe=recipe,
            data_fingerprint=data.fingerprint,
            commit=current_commit(),
            weights_sha256=None if weights is None else sha256_of(weights),
        )
        self._ema_network = copy.deepcopy(self._network).eval()
        self._optimiser = self._build_optimiser()
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
        self._resume()
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

    def _rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0: a linear warm-up, then half a cosine.

        It differs from an emotion model's: the cosine starts with the warm-up, not after it, and
        ends at a hundredth, not at 0. The bundled detector was trained and measured with it.
        """
        warmup = self._settings.warmup_epochs * self._steps
        if step < warmup:
            return self._settings.learning_rate * (step + 1) / warmup
        done = step / (self._settings.epochs * self._steps)
        cosine = 0.5 * (1.0 + math.cos(math.pi * done))
        return self._settings.learning_rate * (MIN_RATE + (1.0 - MIN_RATE) * cosine)

    def _build_optimiser(self) -> torch.optim.AdamW:
        # Depthwise kernels decay too, unlike those of an emotion model: the bundled detector was
        # trained and measured so, and export checks the average precision that int8 costs.
        kernels = [p for p in self._network.parameters() if p.ndim > 1]
        others = [p for p in self._network.parameters() if p.ndim == 1]
        groups = [
            {"params": kernels, "weight_decay": self._settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, self._settings.learning_rate, fused=True)

    def _train_epoch(self, epoch: int, progress: Progress) -> float:
        """Take all steps of an epoch, counted from 1; returns the mean loss."""
        seed = (self._recipe.seed, epoch)
        rng = np.random.default_rng([*seed, self._steps])
        mined = self._mine(rng) if epoch > 1 else []
        batch, total = self._settings.batch, 0.0
        self._network.train()
        batches = epoch_batches(self._maker, mined, seed, batch, self._steps)
        for number, (images, faces) in enumerate(batches):
            step = (epoch - 1) * self._steps + number
            for group in self._optimiser.param_groups:
                group["lr"] = self._rate(step)
            outputs = self._network(_channels_last(images))
            loss = detection_losses(outputs, faces, images.shape[1]).total
            self._optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), MAX_GRADIENT_NORM)
            self._optimiser.step()
            self._update_ema(step + 1)
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
    def _update_ema(self, step: int) -> None:
        momentum = ema_momentum(self._settings.ema_momentum, step)
        pairs = zip(
            self._ema_network.state_dict().values(),
            self._network.state_dict().values(),
            strict=True,
        )
        for average, value in pairs:
            if average.is_floating_point():
                average.lerp_(value, 1.0 - momentum)

    @torch.no_grad()
    def _predict(self, images: Floats) -> Floats:
        """The outputs of the averaged network for images [N, H, W, 1]."""
        outputs: Floats = self._ema_network(_channels_last(images)).numpy()
        return outputs

    def _average_precision(self) -> float:
        """The averaged network's, on whole calibration photos."""
        return average_precision(match_photos(outputs_finder(self._predict), self._validation))

    def _keep(self, epoch: Epoch) -> None:
        self._history += (epoch,)
        if best_of(self._history) is epoch:
            save_weights(self._ema_network, self._run.weights)
            model = network.build(self._recipe.network)
            transfer(self._ema_network, model)
            unfinished = self._run.best.with_name("unfinished.keras")
            model.save(unfinished)
            unfinished.replace(self._run.best)
        self._save()

    def _save(self) -> None:
        state = Checkpoint(
            self._history,
            self._network.state_dict(),
            self._ema_network.state_dict(),
            self._optimiser.state_dict(),
        )
        unfinished = self._run.checkpoint.with_suffix(".part")
        torch.save({**vars(state), "history": [asdict(e) for e in state.history]}, unfinished)
        unfinished.replace(self._run.checkpoint)

    def _resume(self) -> None:
        if not self._run.checkpoint.exists():
            return
        state = load_checkpoint(self._run.checkpoint)
        self._network.load_state_dict(state.network)
        self._ema_network.load_state_dict(state.average)
        self._optimiser.load_state_dict(state.optimiser)
        self._history = state.history


@dataclass(frozen=True)
class Checkpoint:
    """A training's state after an epoch; the dictionaries are PyTorch's."""

    history: tuple[Epoch, ...]
    network: dict[str, Any]
    average: dict[str, Any]
    optimiser: dict[str, Any]


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        state = torch.load(path, weights_only=True)
        state["history"] = tuple(Epoch(**epoch) for epoch in state["history"])
        return Checkpoint(**state)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, UnpicklingError) as error:
        raise TrainingError(f"{path}: checkpoint is damaged; remove it to start again") from error


def _channels_last(images: Floats) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)
