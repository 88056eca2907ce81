from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)

from emotion_trainer.detector import network  # noqa: E402
from emotion_trainer.detector.network_torch import (  # noqa: E402
    Network,
    load_weights,
    save_weights,
    transfer,
)
from emotion_trainer.detector.recipe import NetworkSettings  # noqa: E402
from emotion_trainer.errors import TrainingError  # noqa: E402

torch.set_num_threads(1)  # threads that wait for each other are slow on a busy machine

SETTINGS = NetworkSettings(
    stem=8, stages=((8, 2), (16, 2), (16, 1), (24, 2)), kernels=(3, 5, 5, 3), pyramid=12
)


def randomised() -> Network:
    """A network whose normalisations differ from the identity."""
    torch.manual_seed(0)
    made = Network(SETTINGS).eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                torch.nn.init.uniform_(values, 0.5, 1.5)
            for values in (module.bias, module.running_mean):
                torch.nn.init.normal_(values)
    return made


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_network_in_keras_and_pytorch_gives_same_outputs(size: tuple[int, int]) -> None:
    trained, exported = randomised(), network.build(SETTINGS)
    transfer(trained, exported)
    images = np.random.default_rng(0).uniform(0, 255, (2, *size, 1)).astype(np.float32)
    with torch.no_grad():
        expected = trained(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    found = np.asarray(exported(images))
    cells = sum(size[0] // stride * (size[1] // stride) for stride in (8, 16, 32))
    assert found.shape == (2, cells, 15)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_network_keeps_weights_in_a_keras_file(tmp_path: Path) -> None:
    from emotion_trainer.models.predictions import load_keras

    model = network.build(SETTINGS)
    transfer(randomised(), model)
    model.save(tmp_path / "model.keras")
    images = np.full((1, 64, 64, 1), 90, np.float32)
    loaded = load_keras(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(loaded(images)), np.asarray(model(images)), rtol=1e-5)


def test_weights_saved_and_loaded_are_the_same(tmp_path: Path) -> None:
    saved, loaded = randomised(), Network(SETTINGS)
    save_weights(saved, tmp_path / "weights.npz")
    load_weights(loaded, tmp_path / "weights.npz")
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, saved.state_dict()[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("content", [None, b"", b"PK", "other"])
def test_weights_that_do_not_fit_are_an_error(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "weights.npz"
    if content == "other":
        save_weights(Network(SETTINGS.model_copy(update={"pyramid": 16})), path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"weights\.npz"):
        load_weights(Network(SETTINGS), path)
