"""The model card: a bundle's README, every figure of which is measured when the bundle is made.

The prose is in `templates/model_card.md`. What it states beyond the manifest is computed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.config.settings import CAMERA_SHARES, QualitySettings
from edge_daemon.inference.bundle import Member
from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.balancing import MIN_RECALL
from emotion_trainer.bundle.clips import ClipPredictions
from emotion_trainer.bundle.figures import Bundled, display_name
from emotion_trainer.bundle.records import view_of
from emotion_trainer.data import Dataset, Split
from emotion_trainer.data.dataset import PUBLIC_TEST, VOTES
from emotion_trainer.data.splitting import STRATIFIED_NAME
from emotion_trainer.evaluation.metrics import confuse, measure_without_copies
from emotion_trainer.evaluation.priors import PriorEffect, prior_effects
from emotion_trainer.evaluation.robustness import tables
from emotion_trainer.export.int8 import Agreement
from emotion_trainer.templating import render
from emotion_trainer.tracking import plots
from emotion_trainer.training.origins import OWN_LICENCE
from emotion_trainer.training.provenance import RunRecord, weights_file

CARD_NAME: Final = "README.md"

Matrix = NDArray[np.int64]

VOTE_FOR: Final = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprise": "surprise",
    "neutral": "neutral",
}
"""FER+'s names of the emotions."""


@dataclass(frozen=True)
class Weakness:
    """An emotion, the share of its faces that is recognised, and what most others are called."""

    label: str
    recall: float
    taken_for: str


@dataclass(frozen=True)
class MixUp:
    """Two emotions, and of the faces labelled as either the share called the other."""

    first: str
    second: str
    first_as_second: float
    second_as_first: float


@dataclass(frozen=True)
class Source:
    """Others' work that a member was trained from: a teacher, or weights that it started from.

    Attributes:
        member: recipe of the member.
        name: of the teacher, or the file of the weights.
        role: `soft labels` or `initial weights`.
        licence: as its origin states it; None where it was not recorded.
        sha256: of the teacher's model or of the weights; None where it was not recorded.
        provenance: how it was made; empty where it was not recorded.
    """

    member: str
    name: str
    role: str
    licence: str | None
    sha256: str | None
    provenance: str


def card_files(
    bundled: Bundled, dataset: Dataset, clips: Sequence[ClipPredictions] = ()
) -> dict[str, str]:
    """The card and its plots: content by file name."""
    return {
        CARD_NAME: model_card(bundled, dataset, clips),
        **plots.of_robustness(bundled.robustness),
    }


def model_card(bundled: Bundled, dataset: Dataset, clips: Sequence[ClipPredictions] = ()) -> str:
    """The card, Markdown."""
    split = dataset.validation
    confusion = confuse(bundled.probabilities, split.labels)
    faces = np.bincount(dataset.training.labels, minlength=len(EMOTIONS))
    priors = prior_effects(bundled.probabilities, split.labels)
    return render(
        "model_card.md",
        emotions=EMOTIONS,
        split=dataset.validation_name,
        is_fer2013=dataset.validation_name == PUBLIC_TEST,
        is_stratified=dataset.validation_name == STRATIFIED_NAME,
        members=bundled.bundle.members,
        names=[display_name(member) for member in bundled.bundle.members],
        sizes=bundled.sizes,
        ensemble=bundled.bundle.ensemble,
        created=bundled.bundle.created.date(),
        mirrored=any(member.mirrored for member in bundled.bundle.members),
        left_out=bundled.left_out,
        agreements=[_agreement(bundled, member) for member in bundled.bundle.members],
        unbalanced=bundled.unbalanced,
        min_recall=MIN_RECALL,
        cross_fitted=bundled.cross_fitted,
        training=len(dataset.training),
        validation=len(split),
        votes=_votes_shares(bundled) if dataset.training.votes.any() else [],
        sources=sources_of(bundled),
        unlabelled=any(run.unlabelled_fingerprint for run in _runs(bundled)),
        unrecorded=_unrecorded(bundled),
        warnings=[run.warning for run in _runs(bundled) if run.warning],
        confusion=confusion,
        without_copies=measure_without_copies(bundled.probabilities, dataset),
        priors=priors,
        camera_shares=CAMERA_SHARES,
        robustness=bundled.robustness,
        robustness_tables=tables(bundled.robustness),
        plot_name=plots.plot_name,
        limits=QualitySettings(),
        clips=clips,
        counts=_prediction_counts(dataset.validation_name, split, priors, clips),
        seen_as_labelled=_seen_as_labelled(split),
        weakest=weakest(confusion),
        mixed_up=most_confused(confusion),
        rarest=(EMOTIONS[int(faces.argmin())], int(faces.min())),
        recipes=[f"recipes/{name}.toml" for name in _recipe_names(bundled)],
    )


def weakest(confusion: Matrix) -> list[Weakness]:
    """The two emotions with the least recall, the weaker first."""
    shares = _shares(confusion)
    found = []
    for index in shares.diagonal().argsort(kind="stable")[:2]:
        others = np.where(np.arange(len(EMOTIONS)) == index, -1, confusion[index])
        taken_for = EMOTIONS[int(others.argmax())]
        found.append(Weakness(EMOTIONS[index], float(shares[index, index]), taken_for))
    return found


def most_confused(confusion: Matrix) -> MixUp:
    """The two emotions that are most often taken for each other, whichever way is the rarer."""
    shares = _shares(confusion)
    both = np.triu(np.minimum(shares, shares.T), k=1)
    first, second = np.unravel_index(int(both.argmax()), both.shape)
    return MixUp(
        EMOTIONS[first],
        EMOTIONS[second],
        float(shares[first, second]),
        float(shares[second, first]),
    )


def _shares(confusion: Matrix) -> NDArray[np.float64]:
    """Of each label's faces, the share of each prediction: float64 [7, 7]."""
    shares: NDArray[np.float64] = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return shares


def _prediction_counts(
    name: str, split: Split, priors: Sequence[PriorEffect], clips: Sequence[ClipPredictions]
) -> list[tuple[str, str, Matrix]]:
    """Rows of a table: what was counted, with which prior, and the count of each emotion."""
    labels = np.bincount(split.labels, minlength=len(EMOTIONS))
    return [
        (f"{name}, labels", "", labels),
        *((f"{name}, predictions", effect.prior, effect.counts) for effect in priors),
        *((f"`{clip.clip}`", clip.prior, clip.counts) for clip in clips),
    ]


def _seen_as_labelled(split: Split) -> float | None:
    """The share of the faces with votes whose label has the most of them; None without votes."""
    votes = split.votes[split.votes.any(axis=1)]
    labels = split.labels[split.votes.any(axis=1)]
    if not len(votes):
        return None
    columns = np.array([VOTES.index(VOTE_FOR[name]) for name in EMOTIONS])
    of_label = votes[np.arange(len(votes)), columns[labels]]
    return float((of_label == votes.max(axis=1)).mean())


def sources_of(bundled: Bundled) -> list[Source]:
    """The teachers and the weights of others that members were trained from, by member."""
    found = []
    for record in bundled.records.values():
        recipe = record.run.recipe
        found += [
            Source(recipe.name, one.name, "soft labels", one.licence, one.sha256, one.provenance)
            for one in record.teachers
        ]
        if (weights := weights_file(recipe)) is not None:
            licence = getattr(recipe.model, "licence", None)
            sha256 = record.run.weights_sha256
            found.append(Source(recipe.name, weights.name, "initial weights", licence, sha256, ""))
        if recipe.start is not None:
            start = (recipe.start.name, "initial weights", OWN_LICENCE, record.run.start_sha256)
            found.append(Source(recipe.name, *start, "an earlier model of this network"))
    return found


def _runs(bundled: Bundled) -> list[RunRecord]:
    return [record.run for record in bundled.records.values()]


def _agreement(bundled: Bundled, member: Member) -> Agreement | None:
    record = bundled.records.get(member.file)
    return record.agreements.get(view_of(mirrored=member.mirrored)) if record else None


def _votes_shares(bundled: Bundled) -> list[float]:
    return sorted({run.recipe.targets.votes_share for run in _runs(bundled)} - {0.0})


def _unrecorded(bundled: Bundled) -> list[str]:
    """Recipes of members whose training is not on record."""
    names = (
        member.provenance.recipe
        for member in bundled.bundle.members
        if member.file not in bundled.records
    )
    return list(dict.fromkeys(names))


def _recipe_names(bundled: Bundled) -> list[str]:
    names = {member.provenance.recipe for member in bundled.bundle.members}
    return sorted(names | set(bundled.left_out))
