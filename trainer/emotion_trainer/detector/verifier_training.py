"""Training the verifier on the candidates of a run's search, with PyTorch."""

import math
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Final

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edge_daemon._lib.files import sha256_of
from edge_daemon.records import Image
from emotion_trainer.detector import network
from emotion_trainer.detector.candidates import (
    Candidates,
    candidates_in,
    collect,
    verified_precision,
)
from emotion_trainer.detector.data import DetectorData
from emotion_trainer.detector.faces import Finder, Floats, LabelledImage
from emotion_trainer.detector.learner import Learner, NetworkTrainer
from emotion_trainer.detector.network_torch import (
    Network,
    VerifierNetwork,
    load_weights,
    predict,
)
from emotion_trainer.detector.predictions import outputs_finder
from emotion_trainer.detector.runs import DetectorRecord, DetectorRun
from emotion_trainer.errors import TrainingError
from emotion_trainer.models.families import cost
from emotion_trainer.training.provenance import current_commit

SCENE_COPIES: Final = 3
"""Of each scene in an epoch, each at a size of its own."""
CLOSE_UP_SHARE: Final = 0.3
"""Of the close-ups in an epoch."""
FACE_SHARE: Final = 0.4
"""Of faces in a batch; the others are background."""
LABEL_SMOOTHING: Final = 0.01
"""On either side: some labels are wrong."""
GEOMETRY_WEIGHT: Final = 0.5
SCORE_FLOOR: Final = 0.1
"""Added to scores: background is drawn by its root, so that certain candidates come more often."""
PREDICTION_BATCH: Final = 512


class VerifierTrainer(NetworkTrainer[VerifierNetwork]):
    """The training of a verifier, validated on the candidates in calibration photos.

    Args:
        run: of the search, whose best weights find the candidates.
        data: the material to train on, and photos to validate on.

    Raises:
        TrainingError: the search's run has no weights, they are damaged, or it was trained on
            other data.
    """

    section = "verifier.optimisation"

    def __init__(self, run: DetectorRun, data: DetectorData) -> None:
        run.require_data(data.fingerprint)
        recipe = run.record().recipe
        torch.manual_seed(recipe.seed)
        self._find = _search(run)
        record = DetectorRecord(
            recipe=recipe,
            data_fingerprint=data.fingerprint,
            commit=current_commit(),
            weights_sha256=sha256_of(run.weights),
        )
        self._verifier, settings = recipe.verifier, recipe.verifier.optimisation
        steps = max(1, self._verifier.epoch // settings.batch)
        learner = Learner(VerifierNetwork(self._verifier), settings, steps)
        super().__init__(learner, run.verifier, record, settings, steps)
        self._seed = recipe.seed
        self._data = data

    def summary(self) -> str:
        """The network's cost and size, in a line."""
        built = self._keras_network()
        return f"verifier: {cost.mmac(built):.1f} MMAC a face, {cost.parameters(built)} parameters"

    def _losses(self, epoch: int) -> Iterator[Tensor]:
        """See the base class. Each epoch has a new collection of candidates."""
        rng = np.random.default_rng((self._seed, epoch))
        # Dropout's generator has no place in the checkpoint.
        torch.manual_seed(int(rng.integers(2**31)))
        candidates = collect(self._find, self._drawn_photos(rng), rng)
        if not candidates.is_face.any() or candidates.is_face.all():
            raise TrainingError("--photos: the search needs both faces and background to find")
        for chosen in batches(candidates, self._settings.batch, self._steps, rng):
            yield _loss(self._learner.network, candidates, chosen)

    def _drawn_photos(self, rng: np.random.Generator) -> list[LabelledImage]:
        """The photos of an epoch: mostly scenes, which have more background and smaller faces."""
        scenes, close_ups = self._data.training.scenes, self._data.training.close_ups
        chosen = rng.permutation(len(close_ups))[: math.ceil(CLOSE_UP_SHARE * len(close_ups))]
        return SCENE_COPIES * [*scenes] + [close_ups[index] for index in chosen]

    @cached_property
    def _validation(self) -> Candidates:
        return candidates_in(self._find, self._data.calibration_images())

    def _average_precision(self) -> float:
        """Of the scores with the averaged network's evidence."""
        evidence = self._verifier.weight * self._evidence(self._validation.patches)
        return verified_precision(self._validation, evidence)

    @torch.no_grad()
    def _evidence(self, patches: Image) -> Floats:
        parts = [
            self._learner.average(_tensor(patches[first : first + PREDICTION_BATCH]))[0].numpy()
            for first in range(0, len(patches), PREDICTION_BATCH)
        ]
        return np.concatenate(parts)

    def _keras_network(self) -> keras.Model:
        return network.build_verifier(self._verifier)


def batches(
    candidates: Candidates, size: int, steps: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Indices of the candidates in each batch, `FACE_SHARE` of them faces."""
    faces, background = map(np.flatnonzero, (candidates.is_face, ~candidates.is_face))
    chances = np.sqrt(SCORE_FLOOR + candidates.scores[background])
    chances /= chances.sum()
    count = round(FACE_SHARE * size)
    for _ in range(steps):
        others = rng.choice(background, size - count, p=chances)
        yield np.concatenate([rng.choice(faces, count), others])


def _loss(verifier: VerifierNetwork, candidates: Candidates, chosen: NDArray[np.int64]) -> Tensor:
    evidence, geometry = verifier(_tensor(candidates.patches[chosen]))
    is_face = torch.from_numpy(candidates.is_face[chosen].astype(np.float32))
    targets = LABEL_SMOOTHING + (1 - 2 * LABEL_SMOOTHING) * is_face
    truth = torch.from_numpy(candidates.geometry[chosen])
    known = torch.isfinite(truth)
    errors = (geometry - torch.nan_to_num(truth)).abs() * known
    place = errors.sum() / known.sum().clamp_min(1)
    loss: Tensor = functional.binary_cross_entropy_with_logits(evidence, targets)
    loss += GEOMETRY_WEIGHT * place
    return loss


def _search(run: DetectorRun) -> Finder:
    """The search with a run's best weights."""
    searching = Network(run.record().recipe.network)
    load_weights(searching, run.weights)
    return outputs_finder(partial(predict, searching.eval()))


def _tensor(patches: Image) -> Tensor:
    return torch.from_numpy(patches.astype(np.float32))[:, None]
