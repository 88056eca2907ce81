"""PyTorch's own step, in a process whose Keras computes by PyTorch."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

COMPARE = """
import sys
import keras, numpy as np
from emotion_trainer.models import families
from emotion_trainer.models.families import densenet, dlib_resnet, mobilenet, resnet, seq2, vgg16
from emotion_trainer.training.precision import computing_in
from emotion_trainer.training.torch_step import TorchStep
from emotion_trainer.training.trainer import cross_entropy

SMALL = {
    "seq2": seq2.Settings(family="seq2", width=0.2, dropout=0.0),
    "resnet": resnet.Settings(family="resnet", stem=8, stages=((8, 1), (16, 2))),
    "vgg16": vgg16.Settings(family="vgg16", widths=(8, 8, 8, 8, 8)),
    "mobilenet": mobilenet.Settings(family="mobilenet", stem=8, stages=((8, 1), (16, 2)), head=32),
    # 56 pixels, so that "same" pooling averages over an odd side.
    "dlib_resnet": dlib_resnet.Settings(family="dlib_resnet", side=56, blocks=8),
    "densenet": densenet.Settings(family="densenet", stem=8, blocks=((8, 2), (8, 2))),
}
models = [families.build(SMALL[sys.argv[1]]) for _ in range(2)]
models[1].set_weights(models[0].get_weights())
for model in models:
    model.compile(keras.optimizers.SGD(0.01, 0.9, nesterov=True), cross_entropy)
rng = np.random.default_rng(0)
faces = rng.uniform(0, 255, (64, 48, 48, 1)).astype(np.float32)
targets = rng.dirichlet(np.ones(7), 64).astype(np.float32)
assert TorchStep.supports(models[1])
step = TorchStep(models[1], (0, 1))
for _ in range(2):
    expected, found = models[0].train_on_batch(faces, targets), step(faces, targets)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
for weight, found, expected in zip(models[0].weights, *(m.get_weights()[:] for m in models[::-1])):
    # PyTorch's running variance is that of a sample, n / (n - 1) times Keras'.
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3, err_msg=weight.path)

with computing_in("mixed_bfloat16"):
    mixed = families.build(SMALL[sys.argv[1]])
mixed.set_weights(models[0].get_weights())
mixed.compile(keras.optimizers.SGD(0.01, 0.9, nesterov=True), cross_entropy)
assert TorchStep.supports(mixed)
found, expected = TorchStep(mixed, (0, 1))(faces, targets), models[0].train_on_batch(faces, targets)
np.testing.assert_allclose(found, expected, rtol=3e-2)
for weight, found, expected in zip(mixed.weights, mixed.get_weights(), models[0].get_weights()):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=5e-2, atol=2e-2, err_msg=weight.path)

for layer in (keras.layers.Flatten(), keras.layers.Conv2D(7, 48, activation="gelu")):
    assert not TorchStep.supports(keras.Sequential([keras.Input((48, 48, 1)), layer]))
"""


def _has_torch() -> bool:
    if find_spec("torch") is None:
        return False
    command = [sys.executable, "-c", "import torch"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "family", ["resnet", "vgg16", "mobilenet", "densenet", "seq2", "dlib_resnet"]
)
def test_torch_step_updates_as_keras_does(family: str, tmp_path: Path) -> None:
    if not _has_torch():
        pytest.skip("torch is not installed, or cannot be loaded")
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-c", COMPARE, family]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
