"""Training any network, epoch by epoch, so that it can be stopped and resumed."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Final

import keras
from numpy.typing import NDArray

from emotion_trainer.errors import TrainingError
from emotion_trainer.recipe import Optimisation
from emotion_trainer.training import checkpoint as checkpoints
from emotion_trainer.training.averaging import WeightAverage
from emotion_trainer.training.checkpoint import Checkpoint, Epoch
from emotion_trainer.training.precision import computing_in
from emotion_trainer.training.progress import Progress
from emotion_trainer.training.provenance import RunRecord
from emotion_trainer.training.runs import Run
from emotion_trainer.training.stopping import best_of, is_over

HEAD: Final = "logits/"

UNDECAYED: Final = ["gamma", "beta", "bias"]
"""Weights that are not decayed, nor are depthwise kernels, which have few weights (Howard et al.
2017) and lose their channels to int8 when they become small."""

Batches = Iterable[tuple[NDArray[Any], NDArray[Any]]]
Loss = Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]


class EpochLoop(ABC):
    """A training: the model, its averaged twin, and what came of the epochs so far.

    Args:
        record: what the training is made of.
        run: the folder that keeps it.
        build: makes the untrained network.
        loss: what it is to make small, a number a sample.
        steps: steps in an epoch.
    """

    measure: ClassVar[str] = "accuracy"
    """What validation measures."""

    def __init__(
        self,
        record: RunRecord,
        run: Run,
        build: Callable[[], keras.Model],
        loss: Loss,
        steps: int,
    ) -> None:
        keras.utils.set_random_seed(record.recipe.seed)
        self._record = record
        self._settings = record.recipe.optimisation
        self._run = run
        self._steps = steps
        with computing_in(self._settings.precision):
            self._model = build()
        self._averaged = build()
        compile_model(self._model, self._settings, steps, loss)
        self._average = WeightAverage(self._model, self._settings.ema_momentum)
        self._history: tuple[Epoch, ...] = ()

    @abstractmethod
    def _prepare(self) -> None:
        """Get ready what all epochs need."""

    @abstractmethod
    def _batches(self, epoch: int) -> Batches:
        """An epoch's samples and targets, which depend on the seed and what was learnt alone."""

    @abstractmethod
    def _validate(self, model: keras.Model) -> float:
        """What `measure` names, of the averaged weights."""

    def run(self, after_epoch: Callable[[], None] | None = None) -> Epoch:
        """Train until the recipe's stopping rule and return the best epoch, whose weights are kept.

        Goes on from the folder's checkpoint if there is one. `after_epoch` is called when
        an epoch is on disk.

        Raises:
            TrainingError: the loss is no longer finite, or the checkpoint is not of this training.
        """
        self._run.begin(self._record)
        self._resume()
        if not self._is_over():
            self._train(after_epoch)
        return best_of(self._history)

    def _train(self, after_epoch: Callable[[], None] | None) -> None:
        self._prepare()
        progress = Progress(self._settings.epochs, self._steps, self.measure)
        while not self._is_over():
            started = time.monotonic()
            number = len(self._history) + 1
            loss = self._learn(number, progress)
            self._averaged.set_weights(self._average.weights)
            accuracy = self._validate(self._averaged)
            self._keep(Epoch(number, loss, accuracy, time.monotonic() - started))
            progress.epoch(self._history[-1], best_of(self._history))
            if after_epoch is not None:
                after_epoch()
        if len(self._history) < self._settings.epochs:
            print(f"no better {self.measure} in {self._settings.patience} epochs", flush=True)

    def _is_over(self) -> bool:
        return is_over(self._history, self._settings)

    def _learn(self, epoch: int, progress: Progress) -> float:
        total = 0.0
        learn = training_step(self._model)
        for step, (samples, targets) in enumerate(self._batches(epoch), start=1):
            loss = learn(samples, targets)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"epoch {epoch}, step {step}: the loss is {loss}; lower the learning rate"
                )
            total += loss
            self._average.update(self._model, (epoch - 1) * self._steps + step)
            progress.step(epoch, step, total / step)
        return total / self._steps

    def _keep(self, epoch: Epoch) -> None:
        self._history += (epoch,)
        if best_of(self._history) is epoch:
            unfinished = self._run.best.with_name("unfinished.keras")
            self._averaged.save(unfinished)
            unfinished.replace(self._run.best)
        variables = checkpoints.training_variables(self._model)
        state = Checkpoint(
            history=self._history,
            variables=[keras.ops.convert_to_numpy(variable) for variable in variables],
            average=self._average.weights,
        )
        checkpoints.save(state, self._run.checkpoint)

    def _resume(self) -> None:
        if not self._run.checkpoint.exists():
            return
        state = checkpoints.load(self._run.checkpoint)
        variables = checkpoints.training_variables(self._model)
        if [tuple(v.shape) for v in variables] != [value.shape for value in state.variables]:
            raise TrainingError(f"{self._run.checkpoint}: is of another network; remove it")
        for variable, value in zip(variables, state.variables, strict=True):
            variable.assign(value)
        self._average.weights = state.average
        self._history = state.history
        what = "was finished" if self._is_over() else "goes on"
        print(f"{what} after epoch {len(self._history)}", flush=True)


class AdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW that changes the last layer at a multiple of the learning rate.

    A pretrained network's new head has everything to learn, its body little.
    """

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        *,
        weight_decay: float,
        global_clipnorm: float | None,
        head_rate: float,
    ) -> None:
        super().__init__(schedule, weight_decay=weight_decay, global_clipnorm=global_clipnorm)
        self._head_rate = head_rate

    def update_step(
        self,
        gradient: keras.KerasTensor,
        variable: keras.Variable,
        learning_rate: keras.KerasTensor,
    ) -> None:
        """Update one variable."""
        is_head = variable.path.startswith(HEAD)
        factor = self._head_rate if is_head else 1.0
        super().update_step(gradient, variable, learning_rate * factor)


def training_step(
    model: keras.Model,
) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """What trains a compiled model on samples and targets, and returns the mean loss."""
    if keras.backend.backend() == "torch":
        from emotion_trainer.training.torch_step import TorchStep

        if TorchStep.supports(model):
            return TorchStep(model)
    return lambda samples, targets: float(model.train_on_batch(samples, targets))


def compile_model(model: keras.Model, settings: Optimisation, steps: int, loss: Loss) -> None:
    """Give the model its optimiser and loss; `steps` is the number of steps in an epoch."""
    schedule = learning_rate(settings, steps)
    max_norm = settings.max_norm or None
    optimiser: keras.optimizers.Optimizer
    if settings.method == "adamw":
        factory = partial(AdamW, head_rate=settings.head_rate)
        if settings.head_rate == 1.0:
            factory = keras.optimizers.AdamW  # faster in PyTorch, which groups its updates
        optimiser = factory(schedule, weight_decay=settings.weight_decay, global_clipnorm=max_norm)
    else:
        optimiser = keras.optimizers.SGD(
            schedule,
            settings.momentum,
            nesterov=True,
            weight_decay=settings.weight_decay,
            global_clipnorm=max_norm,
        )
    depthwise = [
        layer.kernel for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)
    ]
    optimiser.exclude_from_weight_decay(depthwise, UNDECAYED)
    optimiser.build(model.trainable_variables)
    model.compile(optimiser, loss)


def learning_rate(
    settings: Optimisation, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate at a step counted from 0, `steps` of which make an epoch."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=round((settings.epochs - settings.warmup_epochs) * steps),
        warmup_target=settings.learning_rate,
        warmup_steps=round(settings.warmup_epochs * steps),
    )
