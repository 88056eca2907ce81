import keras
import numpy as np
import pytest

from emotion_trainer.recipe import Optimisation
from emotion_trainer.training.optimiser import learning_rate, optimiser_for


def changes(settings: Optimisation) -> dict[str, float]:
    """By layer, how much its first weight changes in one step with equal gradients."""
    pixels = keras.Input((2,))
    body = keras.layers.Dense(2, name="body")(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2, name="logits")(body))
    before = {
        layer.name: np.copy(keras.ops.convert_to_numpy(layer.bias)) for layer in model.layers[1:]
    }
    optimiser = optimiser_for(model, settings, steps=10)
    gradients = [keras.ops.ones_like(variable) for variable in model.trainable_variables]
    optimiser.apply(gradients, model.trainable_variables)
    return {
        layer.name: float(before[layer.name][0] - keras.ops.convert_to_numpy(layer.bias)[0])
        for layer in model.layers[1:]
    }


@pytest.mark.parametrize("head_rate", [1.0, 3.0])
def test_head_changes_at_a_multiple_of_the_rate(head_rate: float) -> None:
    rates = {"learning_rate": 1e-2, "head_rate": head_rate}
    changed = changes(Optimisation(method="adamw", epochs=2, batch=1, **rates))
    assert changed["body"] > 0
    assert changed["logits"] == pytest.approx(head_rate * changed["body"], rel=1e-3)


def test_warm_up_may_take_all_steps_of_a_short_training() -> None:
    settings = Optimisation(epochs=1, batch=1, learning_rate=0.1, warmup_epochs=0.9)
    assert float(learning_rate(settings, steps=2)(1)) == pytest.approx(0.05)
