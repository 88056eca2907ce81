"""Loading of a backbone's weights, whose batch normalisation is folded into the convolutions."""

import zipfile
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from emotion_trainer.errors import RecipeError
from emotion_trainer.models.warm_start import CONVOLUTIONS, FoldedLayer, unfold


def load_pretrained(model: keras.Model, path: Path, faces: NDArray[np.uint8]) -> None:
    """Load the convolutions' weights by name and unfold batch normalisation.

    Args:
        model: as `families.backbone.build` makes it.
        path: an `.npz` file with `NAME/kernel` and `NAME/bias` for each convolution.
        faces: uint8 [N, 48, 48], of which some give the statistics of normalisation.

    Raises:
        RecipeError: the file is missing, damaged, or of another network.
    """
    convolutions = [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]
    try:
        with np.load(path, allow_pickle=False) as file:
            pairs = [(layer, _folded(file, layer)) for layer in convolutions]
    except FileNotFoundError as error:
        raise RecipeError(f"model.weights: {path}: no such file; see `convert --help`") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RecipeError(f"model.weights: {path}: not weights of this network: {error}") from error
    unfold(model, pairs, faces)


def _folded(file: "np.lib.npyio.NpzFile", layer: keras.Layer) -> FoldedLayer:
    kernel = file[f"{layer.name}/kernel"].astype(np.float32)
    bias = file[f"{layer.name}/bias"].astype(np.float32)
    if kernel.shape != tuple(layer.kernel.shape):
        raise ValueError(f"{layer.name}: kernel {kernel.shape} instead of {layer.kernel.shape}")
    return FoldedLayer(kernel, bias, isinstance(layer, keras.layers.DepthwiseConv2D))
