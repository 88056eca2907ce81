"""Candidate views of a bundle: each model on the faces as they are, and maybe on mirrored ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from edge_daemon.inference.bundle import Bundle, Member
from emotion_trainer.bundle.candidates import Candidate
from emotion_trainer.bundle.ensembling import LogProbabilities
from emotion_trainer.bundle.records import LeftOut
from emotion_trainer.data import Dataset
from emotion_trainer.evaluation.predictions import Predictions


@dataclass(frozen=True)
class CandidateView:
    """A model, whether it sees faces mirrored, and its predictions for the validation split."""

    candidate: Candidate
    mirrored: bool
    predictions: Predictions

    @property
    def file(self) -> str:
        """Name of the model's file."""
        return self.candidate.file.name

    @property
    def mmac(self) -> float:
        """Million multiply-accumulates for one face."""
        return self.candidate.mmac

    def as_member(self, weight: float) -> Member:
        """Its entry in a manifest."""
        return self.candidate.as_member(weight, self.predictions.metrics, mirrored=self.mirrored)

    def as_left_out(self, reason: Literal["weight", "max_mmac"]) -> LeftOut:
        """Its entry among the views that were left out."""
        return LeftOut(
            file=self.file,
            recipe=self.candidate.name,
            mirrored=self.mirrored,
            mmac=self.mmac,
            reason=reason,
        )


Views: TypeAlias = Sequence[CandidateView]


def predict_views(candidates: Iterable[Candidate], dataset: Dataset, *, mirrored: bool) -> Views:
    """The views of each model, with predictions.

    They are sorted by file, so the order of the models does not change the fit.

    Args:
        candidates: the models.
        dataset: whose validation split is predicted.
        mirrored: whether each model has a second view, of mirrored faces.
    """
    return [
        CandidateView(candidate, view, candidate.predictions(dataset, mirrored=view))
        for candidate in sorted(candidates, key=lambda candidate: candidate.file.name)
        for view in ((False, True) if mirrored else (False,))
    ]


def stack(views: Views) -> LogProbabilities:
    """The log-probabilities of views, float32 [V, N, 7]."""
    return np.stack([view.predictions.log_probabilities for view in views])


def models_in(views: Views) -> dict[str, Candidate]:
    """The models of views, by file."""
    return {view.file: view.candidate for view in views}


def views_of(bundle: Bundle, views: Views) -> Views:
    """The views that are members of a bundle, in its order."""
    by_key = {(view.file, view.mirrored): view for view in views}
    return [by_key[member.file, member.mirrored] for member in bundle.members]
