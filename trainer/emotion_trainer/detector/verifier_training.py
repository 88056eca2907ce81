"""Training the verifier on the candidates of a run's search, with PyTorch."""

import math
import time
from collections.abc import Iterator
from typing import Final

import cv2
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
from emotion_trainer.detector.export import calibration_images
from emotion_trainer.detector.faces import Finder, Floats, LabelledImage
from emotion_trainer.detector.learner import Learner
from emotion_trainer.detector.network_torch import Network, VerifierNetwork, load_weights
from emotion_trainer.detector.predictions import outputs_finder
from emotion_trainer.detector.runs import DetectorRecord, DetectorRun
from emotion_trainer.errors import TrainingError
from emotion_trainer.models.families import cost
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.progress import Progress
from emotion_trainer.training.provenance import current_commit
from emotion_trainer.training.stopping import best_of, is_over

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
PREDICTED: Final = 512
"""Patches at a time."""


class VerifierTrainer:
    """The training of a verifier, validated on the candidates in calibration photos.

    Args:
        run: of the search, whose best weights find the candidates.
        data: the material to train on, and photos to validate on.

    Raises:
        TrainingError: the search's run has no weights, or they are damaged.
    """

    def __init__(self, run: DetectorRun, data: DetectorData) -> None:
        recipe = run.record().recipe
        torch.manual_seed(recipe.seed)
        self._recipe = recipe
        self._settings = recipe.verifier
        self._run = run.verifier
        self._find = _search(run)
        self._material = data.training
        self._calibration = data.calibration
        optimisation = self._settings.optimisation
        self._steps = max(1, self._settings.epoch // optimisation.batch)
        self._learner = Learner(VerifierNetwork(self._settings), optimisation, self._steps)
        self._record = DetectorRecord(
            recipe=recipe,
            data_fingerprint=data.fingerprint,
            commit=current_commit(),
            weights_sha256=sha256_of(run.weights),
        )
        self._history: tuple[Epoch, ...] = ()

    def summary(self) -> str:
        """The network's cost and size, in a line."""
        built = network.build_verifier(self._settings)
        return f"verifier: {cost.mmac(built):.1f} MMAC a face, {cost.parameters(built)} parameters"

    def run(self) -> Epoch:
        """Train to the last epoch and return the best one, whose weights are kept.

        Continues from the folder's checkpoint if there is one.

        Raises:
            TrainingError: the loss is not finite, or the checkpoint is of another training.
        """
        self._run.begin(self._record)
        self._history = self._learner.resume(self._run.checkpoint)
        cv2.setNumThreads(1)
        epochs = self._settings.optimisation.epochs
        progress = Progress(epochs, self._steps, "average precision")
        validation = candidates_in(self._find, calibration_images(self._calibration))
        while not is_over(self._history, epochs):
            started = time.monotonic()
            number = len(self._history) + 1
            loss = self._train_epoch(number, progress)
            precision = self._average_precision(validation)
            self._keep(Epoch(number, loss, precision, time.monotonic() - started))
            progress.epoch(self._history[-1], best_of(self._history))
        return best_of(self._history)

    def _train_epoch(self, epoch: int, progress: Progress) -> float:
        """Take all steps of an epoch, counted from 1; returns the mean loss.

        Each epoch has a new collection of candidates.
        """
        rng = np.random.default_rng((self._recipe.seed, epoch))
        # Dropout's generator has no place in the checkpoint.
        torch.manual_seed(int(rng.integers(2**31)))
        candidates = collect(self._find, self._drawn_photos(rng), rng)
        if not candidates.is_face.any() or candidates.is_face.all():
            raise TrainingError("--photos: the search needs both faces and background to find")
        self._learner.network.train()
        total, size = 0.0, self._settings.optimisation.batch
        for number, chosen in enumerate(batches(candidates, size, self._steps, rng)):
            loss = _loss(self._learner.network, candidates, chosen)
            self._learner.step(loss, (epoch - 1) * self._steps + number)
            total += loss.item()
            if not math.isfinite(total):
                rate = self._settings.optimisation.learning_rate
                raise TrainingError(
                    f"verifier.optimisation.learning_rate: the loss of epoch {epoch} is not finite "
                    f"(got {rate}); lower it"
                )
            progress.step(epoch, number + 1, total / (number + 1))
        return total / self._steps

    def _drawn_photos(self, rng: np.random.Generator) -> list[LabelledImage]:
        """The photos of an epoch: mostly scenes, which have more background and smaller faces."""
        close_ups = self._material.close_ups
        chosen = rng.permutation(len(close_ups))[: math.ceil(CLOSE_UP_SHARE * len(close_ups))]
        return SCENE_COPIES * [*self._material.scenes] + [close_ups[index] for index in chosen]

    def _average_precision(self, validation: Candidates) -> float:
        """Of the scores with the averaged network's evidence."""
        evidence = self._settings.weight * self._evidence(validation.patches)
        return verified_precision(validation, evidence)

    @torch.no_grad()
    def _evidence(self, patches: Image) -> Floats:
        parts = [
            self._learner.average(_tensor(patches[first : first + PREDICTED]))[0].numpy()
            for first in range(0, len(patches), PREDICTED)
        ]
        return np.concatenate(parts)

    def _keep(self, epoch: Epoch) -> None:
        self._history += (epoch,)
        if best_of(self._history) is epoch:
            self._learner.keep_average(self._run, network.build_verifier(self._settings))
        self._learner.save(self._run.checkpoint, self._history)


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
    searching.eval()

    @torch.no_grad()
    def predict(images: Floats) -> Floats:
        outputs: Floats = searching(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        return outputs

    return outputs_finder(predict)


def _tensor(patches: Image) -> Tensor:
    return torch.from_numpy(patches.astype(np.float32))[:, None]
