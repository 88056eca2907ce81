"""What the trainings of the detector's networks share: epochs, schedule, average, checkpoints."""

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar, Final, Generic, TypeVar

import cv2
import keras
import torch
from torch import Tensor, nn

from emotion_trainer.detector.network_torch import save_weights, transfer
from emotion_trainer.detector.recipe import DetectorOptimisation
from emotion_trainer.detector.runs import DetectorRecord, DetectorRun
from emotion_trainer.errors import TrainingError
from emotion_trainer.training.averaging import ema_momentum
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.progress import Progress
from emotion_trainer.training.stopping import best_of, is_over

MAX_GRADIENT_NORM: Final = 10.0
MIN_RATE: Final = 0.01
"""Part of the learning rate at the end."""
KERNEL_DIMENSIONS: Final = 4

Net = TypeVar("Net", bound=nn.Module)


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


class Learner(Generic[Net]):
    """A network, the moving average of its weights, and its optimiser.

    Args:
        network: the network, whose kernels get the layout that is fast on processors.
        settings: of the optimisation.
        steps: in an epoch.
    """

    def __init__(self, network: Net, settings: DetectorOptimisation, steps: int) -> None:
        for parameter in network.parameters():
            if parameter.ndim == KERNEL_DIMENSIONS:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.network = network
        self.average = copy.deepcopy(network).eval()
        self._settings = settings
        self._steps = steps
        self._optimiser = self._build_optimiser()

    def step(self, loss: Tensor, number: int) -> None:
        """Take a step, counted from 0 in the whole training, down the gradient of a loss."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate(number)
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self._optimiser.step()
        self._update_average(number + 1)

    def keep_average(self, run: DetectorRun, model: keras.Model) -> None:
        """Write the averaged weights into a run's folder, and a Keras model that has them.

        Args:
            run: the run.
            model: the same network in Keras; it gets the weights.
        """
        save_weights(self.average, run.weights)
        transfer(self.average, model)
        unfinished = run.best.with_name("unfinished.keras")
        model.save(unfinished)
        unfinished.replace(run.best)

    def save(self, path: Path, history: tuple[Epoch, ...]) -> None:
        """Write the state after these epochs."""
        state = Checkpoint(
            history,
            self.network.state_dict(),
            self.average.state_dict(),
            self._optimiser.state_dict(),
        )
        unfinished = path.with_suffix(".part")
        torch.save({**vars(state), "history": [asdict(e) for e in state.history]}, unfinished)
        unfinished.replace(path)

    def resume(self, path: Path) -> tuple[Epoch, ...]:
        """Continue from a checkpoint if there is one; returns the epochs before it.

        Raises:
            TrainingError: it is damaged.
        """
        if not path.exists():
            return ()
        state = load_checkpoint(path)
        self.network.load_state_dict(state.network)
        self.average.load_state_dict(state.average)
        self._optimiser.load_state_dict(state.optimiser)
        return state.history

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
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim == 1]
        groups = [
            {"params": kernels, "weight_decay": self._settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, self._settings.learning_rate, fused=True)

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        momentum = ema_momentum(self._settings.ema_momentum, step)
        pairs = zip(
            self.average.state_dict().values(), self.network.state_dict().values(), strict=True
        )
        for average, value in pairs:
            if average.is_floating_point():
                average.lerp_(value, 1.0 - momentum)


class NetworkTrainer(ABC, Generic[Net]):
    """The training of a network, epoch by epoch, into the folder of a run.

    Args:
        learner: the network with its optimiser.
        run: the folder of its files.
        record: what the run is of.
        settings: of the optimisation.
        steps: in an epoch.
    """

    section: ClassVar[str] = "optimisation"
    """The recipe's section with the settings."""

    def __init__(
        self,
        learner: Learner[Net],
        run: DetectorRun,
        record: DetectorRecord,
        settings: DetectorOptimisation,
        steps: int,
    ) -> None:
        self._learner = learner
        self._run = run
        self._record = record
        self._settings = settings
        self._steps = steps
        self._history: tuple[Epoch, ...] = ()

    def run(self) -> Epoch:
        """Train to the recipe's last epoch and return the best one, whose weights are kept.

        Continues from the folder's checkpoint if there is one.

        Raises:
            TrainingError: the loss is not finite, the checkpoint is of another training, or another
                process trains in the folder.
        """
        # One thread makes the images; OpenCV's own threads would compete with the training.
        cv2.setNumThreads(1)
        with self._run.reserved():
            self._run.begin(self._record)
            self._history = self._learner.resume(self._run.checkpoint)
            self._train()
        return best_of(self._history)

    def _train(self) -> None:
        progress = Progress(self._settings.epochs, self._steps, "average precision")
        while not is_over(self._history, self._settings.epochs):
            started = time.monotonic()
            number = len(self._history) + 1
            loss = self._train_epoch(number, progress)
            precision = self._average_precision()
            self._keep(Epoch(number, loss, precision, time.monotonic() - started))
            progress.epoch(self._history[-1], best_of(self._history))

    def _train_epoch(self, epoch: int, progress: Progress) -> float:
        """Take all steps of an epoch, counted from 1; returns the mean loss."""
        total = 0.0
        self._learner.network.train()
        for number, loss in enumerate(self._losses(epoch)):
            self._learner.step(loss, (epoch - 1) * self._steps + number)
            total += loss.item()
            if not math.isfinite(total):
                raise TrainingError(
                    f"{self.section}.learning_rate: the loss of epoch {epoch}, step {number} is "
                    f"not finite (got {self._settings.learning_rate}); lower it"
                )
            progress.step(epoch, number + 1, total / (number + 1))
        return total / self._steps

    def _keep(self, epoch: Epoch) -> None:
        self._history += (epoch,)
        if best_of(self._history) is epoch:
            self._learner.keep_average(self._run, self._keras_network())
        self._learner.save(self._run.checkpoint, self._history)

    @abstractmethod
    def _losses(self, epoch: int) -> Iterator[Tensor]:
        """The loss of each step of an epoch, counted from 1, with the weights of that step."""

    @abstractmethod
    def _average_precision(self) -> float:
        """The averaged network's, by which the best epoch is chosen."""

    @abstractmethod
    def _keras_network(self) -> keras.Model:
        """The same network in Keras, untrained."""
