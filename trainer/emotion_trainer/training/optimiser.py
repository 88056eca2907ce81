"""The optimiser of an emotion model: its method, learning rate, decay and clipping."""

from functools import partial
from typing import Final

import keras

from emotion_trainer.recipe import Optimisation

HEAD: Final = "logits/"

UNDECAYED: Final = ["gamma", "beta", "bias"]
"""Weights without decay. Depthwise kernels have none, either: they have few weights (Howard et al.
2017), and int8 loses the channels of small ones."""


class AdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW that changes the last layer at a multiple of the learning rate.

    In a pretrained network, the last layer is new and the others change little.
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
        # TensorFlow passes its own variable, which has no path.
        known = self._trainable_variables[self._get_variable_index(variable)]
        is_head = known.path.startswith(HEAD)
        factor = self._head_rate if is_head else 1.0
        super().update_step(gradient, variable, learning_rate * factor)


def optimiser_for(
    model: keras.Model, settings: Optimisation, steps: int
) -> keras.optimizers.Optimizer:
    """An optimiser built for the model's weights; `steps` is the number of steps in an epoch."""
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
    return optimiser


def learning_rate(
    settings: Optimisation, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate at a step counted from 0, `steps` of which make an epoch."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        # Of a few steps, the warm-up may take all.
        decay_steps=max(1, round((settings.epochs - settings.warmup_epochs) * steps)),
        warmup_target=settings.learning_rate,
        warmup_steps=round(settings.warmup_epochs * steps),
    )
