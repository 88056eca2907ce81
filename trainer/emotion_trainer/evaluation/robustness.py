"""Accuracy on degraded faces: small, blurred, dark or compressed.

Each degradation is applied to the validation faces at several levels, and the models' accuracy is
measured. The daemon's `quality` settings refuse faces by size and sharpness, so accuracy by
sharpness is measured, too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_daemon.detection.step import sharpness
from edge_daemon.records import CROP_SIDE
from emotion_trainer.data import Split

Faces = NDArray[np.uint8]
ScoresByModel = Mapping[str, NDArray[np.floating]]
"""Probabilities or logits [N, 7] of each model, by its name."""

MAX_FACES: Final = 1200
"""Faces of a split that are used: some minutes for a bundle of 100 MMAC a face."""

SEED: Final = 0

GAMMA: Final = 2.2
"""Light is proportional to a pixel value to this power."""
FULL_WELL: Final = 4000.0
"""Electrons of the brightest pixel at exposure 1, as of a small sensor."""
READ_NOISE: Final = 4.0
"""Electrons, standard deviation."""

SHARPNESS_EDGES: Final = (0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, np.inf)


def reduce_size(faces: Faces, side: float) -> Faces:
    """Faces of fewer pixels a side, enlarged to the crop again."""
    size = (int(side), int(side))
    whole = (CROP_SIDE, CROP_SIDE)
    small = (cv2.resize(face, size, interpolation=cv2.INTER_AREA) for face in faces)
    return _stacked(cv2.resize(face, whole, interpolation=cv2.INTER_LINEAR) for face in small)


def blur(faces: Faces, sigma: float) -> Faces:
    """Faces out of focus: Gaussian blur, its standard deviation in pixels of the crop."""
    if sigma == 0.0:
        return faces
    border = cv2.BORDER_REPLICATE
    return _stacked(cv2.GaussianBlur(face, (0, 0), sigma, borderType=border) for face in faces)


def darken(faces: Faces, exposure: float) -> Faces:
    """Faces in less light, without amplification, with the shot and read noise of a sensor."""
    rng = np.random.default_rng(SEED)
    electrons = FULL_WELL * exposure * (faces / 255.0) ** GAMMA
    noisy = rng.poisson(electrons) + rng.normal(0.0, READ_NOISE, faces.shape)
    light = np.clip(noisy / FULL_WELL, 0.0, 1.0)
    return np.asarray(np.rint(255.0 * light ** (1 / GAMMA)), np.uint8)


def compress(faces: Faces, quality: float) -> Faces:
    """Crops after JPEG compression of this quality, 1 to 100."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    encoded = (cv2.imencode(".jpg", face, parameters)[1] for face in faces)
    return _stacked(np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)) for content in encoded)


def _stacked(faces: Iterable[cv2.typing.MatLike]) -> Faces:
    return np.stack([np.asarray(face, np.uint8) for face in faces])


@dataclass(frozen=True)
class Degradation:
    """One kind of degradation; `levels` go from the weakest to the strongest.

    Attributes:
        name: of the plot's file.
        title: of the plot's axis, with the unit of the levels.
        levels: its strengths.
        apply: degrades faces, uint8 [N, 48, 48].
    """

    name: str
    title: str
    levels: tuple[float, ...]
    apply: Callable[[Faces, float], Faces]


DEGRADATIONS: Final = (
    Degradation("face_size", "face size in pixels", (48, 40, 32, 28, 24, 20, 16), reduce_size),
    Degradation("blur", "blur, sigma in pixels of the crop", (0, 0.5, 1, 1.5, 2, 3), blur),
    Degradation(
        "low_light", "exposure, share of full light", (1, 0.5, 0.25, 0.125, 0.0625, 0.03125), darken
    ),
    Degradation("jpeg", "JPEG quality of the crop", (95, 75, 50, 30, 20, 10), compress),
)


@dataclass(frozen=True)
class Curve:
    """Accuracy at each level of a degradation.

    Attributes:
        degradation: the other lists have an item for each of its levels.
        accuracies: of each model, by name.
        sharpness: the faces' median sharpness, as the daemon measures it.
    """

    degradation: Degradation
    accuracies: dict[str, list[float]]
    sharpness: list[float]


@dataclass(frozen=True)
class SharpnessBin:
    """The faces whose sharpness is from `low` to `high`, at all levels of blur.

    Attributes:
        low: included.
        high: excluded.
        faces: how many there are.
        accuracy: of the first model; None without faces.
    """

    low: float
    high: float
    faces: int
    accuracy: float | None


@dataclass(frozen=True)
class Robustness:
    """All curves, and how many faces each level was measured on."""

    faces: int
    curves: tuple[Curve, ...]
    by_sharpness: tuple[SharpnessBin, ...]


def measure_robustness(predict: Callable[[Faces], ScoresByModel], split: Split) -> Robustness:
    """Measure accuracy at each level of each degradation, with a progress bar on a terminal.

    Args:
        predict: the models' predictions for faces, uint8 [N, 48, 48]; the first model's accuracy
            is measured by sharpness.
        split: labelled faces, of which at most `MAX_FACES` in equal steps are used.
    """
    step = -(-len(split) // MAX_FACES)
    faces, labels = split.images[::step], split.labels[::step]
    levels = [(kind, level) for kind in DEGRADATIONS for level in kind.levels]
    right: dict[str, list[dict[str, NDArray[np.bool_]]]] = {kind.name: [] for kind in DEGRADATIONS}
    sharp: dict[str, list[NDArray[np.float64]]] = {kind.name: [] for kind in DEGRADATIONS}
    for kind, level in tqdm(levels, desc="robustness", leave=False, disable=None):
        degraded = kind.apply(faces, level)
        predictions = predict(degraded)
        right[kind.name].append(
            {name: scores.argmax(axis=1) == labels for name, scores in predictions.items()}
        )
        sharp[kind.name].append(np.array([sharpness(face) for face in degraded]))
    return Robustness(
        faces=len(faces),
        curves=tuple(_curve(kind, right[kind.name], sharp[kind.name]) for kind in DEGRADATIONS),
        by_sharpness=_by_sharpness(
            np.concatenate(sharp["blur"]),
            np.concatenate([next(iter(models.values())) for models in right["blur"]]),
        ),
    )


def _curve(
    kind: Degradation,
    right: list[dict[str, NDArray[np.bool_]]],
    sharp: list[NDArray[np.float64]],
) -> Curve:
    return Curve(
        degradation=kind,
        accuracies={name: [float(models[name].mean()) for models in right] for name in right[0]},
        sharpness=[float(np.median(values)) for values in sharp],
    )


def _by_sharpness(
    values: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[SharpnessBin, ...]:
    bins = []
    for low, high in pairwise(SHARPNESS_EDGES):
        inside = (values >= low) & (values < high)
        accuracy = float(right[inside].mean()) if inside.any() else None
        bins.append(SharpnessBin(low, high, int(inside.sum()), accuracy))
    return tuple(bins)


def tables(robustness: Robustness) -> dict[str, str]:
    """The figures as Markdown tables, by the name of the degradation, and `sharpness`."""
    by_kind = {curve.degradation.name: _table(curve) for curve in robustness.curves}
    return {**by_kind, "sharpness": _sharpness_table(robustness.by_sharpness)}


def _table(curve: Curve) -> str:
    columns = [curve.degradation.title, *curve.accuracies, "sharpness"]
    rows = [columns, ["---:"] * len(columns)]
    for index, level in enumerate(curve.degradation.levels):
        accuracies = [f"{values[index]:.3f}" for values in curve.accuracies.values()]
        rows.append([f"{level:g}", *accuracies, f"{curve.sharpness[index]:.3f}"])
    return _markdown(rows)


def _sharpness_table(bins: Sequence[SharpnessBin]) -> str:
    rows = [["sharpness", "faces", "accuracy"], ["---:"] * 3]
    for one in bins:
        if one.accuracy is not None:
            span = f"{one.low:g} to {one.high:g}" if np.isfinite(one.high) else f"from {one.low:g}"
            rows.append([span, f"{one.faces:,}", f"{one.accuracy:.3f}"])
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
