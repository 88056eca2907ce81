"""The model card: a bundle's README, every figure of which is measured when the bundle is made.

The prose is in `templates/model_card.md`. What it states beyond the manifest is computed here.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.config.settings import CAMERA_SHARES, QualitySettings
from edge_daemon.inference.bundle import Member
from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.balancing import MAX_LOSS, MIN_RECALL
from emotion_trainer.bundle.clips import ClipPredictions
from emotion_trainer.bundle.ensembling import HALVINGS
from emotion_trainer.bundle.figures import Bundled, display_name
from emotion_trainer.bundle.records import Bundling, view_of
from emotion_trainer.data import Dataset, Split
from emotion_trainer.data.dataset import PUBLIC_TEST, VOTES
from emotion_trainer.data.splitting import STRATIFIED_NAME
from emotion_trainer.evaluation.metrics import confuse, measure_without_copies
from emotion_trainer.evaluation.priors import PriorEffect, prior_effects
from emotion_trainer.evaluation.robustness import tables
from emotion_trainer.export.int8 import Agreement
from emotion_trainer.templating import render
from emotion_trainer.tracking import plots
from emotion_trainer.training.provenance import RunRecord, weights_file

CARD_NAME: Final = "README.md"
FER2013_FACES: Final = 28_709 + 3_589
"""Of Training and PublicTest."""

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
    """An emotion with a low recall.

    Attributes:
        label: the emotion.
        recall: the share of its faces that is recognised.
        taken_for: what its other faces are most often called, which need not be most of them.
        taken_share: the share of all its faces that is called so.
    """

    label: str
    recall: float
    taken_for: str
    taken_share: float


@dataclass(frozen=True)
class ConfusedPair:
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
        role: `soft labels`, `initial weights`, or `start`: the model that it continues, and that
            model's own origins.
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
    return render("model_card.md", **card_values(bundled, dataset, clips))


def card_values(
    bundled: Bundled, dataset: Dataset, clips: Sequence[ClipPredictions] = ()
) -> dict[str, object]:
    """What the template renders, by the template's names."""
    confusion = confuse(bundled.probabilities, dataset.validation.labels)
    return {
        "emotions": EMOTIONS,
        **_member_values(bundled),
        **_data_values(bundled, dataset),
        **_figure_values(bundled, dataset),
        "confusion": confusion,
        **_share_values(bundled, dataset, clips),
        **_limit_values(confusion, dataset),
        **_making_values(bundled, dataset, clips),
    }


def _member_values(bundled: Bundled) -> dict[str, object]:
    members = bundled.bundle.members
    return {
        "warnings": [run.warning for run in _runs(bundled) if run.warning],
        "members": members,
        "names": [display_name(member) for member in members],
        "sizes": bundled.sizes,
        "mirrored": any(member.mirrored for member in members),
        "agreements": [_agreement(bundled, member) for member in members],
        "ensemble": bundled.bundle.ensemble,
    }


def _data_values(bundled: Bundled, dataset: Dataset) -> dict[str, object]:
    return {
        "split": dataset.validation_name,
        "is_fer2013": _is_fer2013(dataset),
        "foreign": bundled.foreign,
        "is_all_foreign": {m.provenance.recipe for m in bundled.bundle.members}
        == set(bundled.foreign),
        "is_stratified": dataset.validation_name == STRATIFIED_NAME,
        "training": len(dataset.training),
        "validation": len(dataset.validation),
        "votes": _votes_shares(bundled) if dataset.training.votes.any() else [],
        "unlabelled": any(run.unlabelled_fingerprint for run in _runs(bundled)),
        "sources": sources_of(bundled),
        "unrecorded": _unrecorded(bundled),
    }


def _is_fer2013(dataset: Dataset) -> bool:
    """Whether the data are FER2013's official splits, as far as their numbers of faces show."""
    skipped = len(dataset.unreadable.faults)
    faces = len(dataset.training) + len(dataset.validation) + skipped
    return dataset.validation_name == PUBLIC_TEST and faces == FER2013_FACES


def _figure_values(bundled: Bundled, dataset: Dataset) -> dict[str, object]:
    return {
        "unbalanced": bundled.unbalanced,
        "anytime": bundled.anytime,
        "min_recall": MIN_RECALL,
        "max_loss": MAX_LOSS,
        "given_up": bundled.given_up,
        "fitted": _fitted(bundled),
        "halvings": HALVINGS,
        "cross_fitted": bundled.bundling.cross_fitted,
        "without_copies": measure_without_copies(bundled.probabilities, dataset),
        "robustness": bundled.robustness,
        "robustness_tables": tables(bundled.robustness),
        "plot_name": plots.plot_name,
        "limits": QualitySettings(),
    }


def _fitted(bundled: Bundled) -> list[str]:
    """What was selected or fitted on the validation split."""
    adjustment = ["the adjustment"] if bundled.bundle.ensemble.adjustment else []
    return ["the members", "their weights", "the temperatures", *adjustment]


def _share_values(
    bundled: Bundled, dataset: Dataset, clips: Sequence[ClipPredictions]
) -> dict[str, object]:
    priors = prior_effects(bundled.probabilities, dataset.validation.labels)
    return {
        "priors": priors,
        "camera_shares": CAMERA_SHARES,
        "clips": clips,
        "counts": _prediction_counts(dataset.validation_name, dataset.validation, priors, clips),
    }


def _limit_values(confusion: Matrix, dataset: Dataset) -> dict[str, object]:
    faces = np.bincount(dataset.training.labels, minlength=len(EMOTIONS))
    return {
        "seen_as_labelled": _seen_as_labelled(dataset.validation),
        "weakest": weakest(confusion),
        "confused": confused_pair(confusion),
        "rarest": (EMOTIONS[int(faces.argmin())], int(faces.min())),
    }


def _making_values(
    bundled: Bundled, dataset: Dataset, clips: Sequence[ClipPredictions]
) -> dict[str, object]:
    bundling = bundled.bundling
    return {
        "created": bundled.bundle.created.date(),
        "recipes": [shlex.quote(recipe) for recipe in bundling.recipes],
        "options": _ladder_options(bundling, dataset),
        "clip_names": list(dict.fromkeys(shlex.quote(clip.clip) for clip in clips)),
        "left_out": [(one.name, one.mmac, bundling.reason(one)) for one in bundling.left_out],
    }


def _ladder_options(bundling: Bundling, dataset: Dataset) -> list[str]:
    """The options of `ladder` that make this bundle from the recipes."""
    limit = bundling.max_mmac
    return [
        "--data PATH",
        *(["--unlabelled FACES"] if bundling.unlabelled else []),
        "--out ../models",
        *(["--mirrored"] if bundling.mirrored else []),
        *([f"--max-mmac {limit:.10g}"] if limit is not None else []),
        *(["--split stratified"] if dataset.validation_name == STRATIFIED_NAME else []),
    ]


def weakest(confusion: Matrix) -> list[Weakness]:
    """The two emotions with the least recall, the weaker first."""
    shares = _shares(confusion)
    found = []
    for index in shares.diagonal().argsort(kind="stable")[:2]:
        others = np.where(np.arange(len(EMOTIONS)) == index, -1, confusion[index])
        taken_for = int(others.argmax())
        recall, taken_share = (float(shares[index, called]) for called in (index, taken_for))
        found.append(Weakness(EMOTIONS[index], recall, EMOTIONS[taken_for], taken_share))
    return found


def confused_pair(confusion: Matrix) -> ConfusedPair:
    """The two emotions that are most often taken for each other, whichever way is the rarer."""
    shares = _shares(confusion)
    both = np.triu(np.minimum(shares, shares.T), k=1)
    first, second = np.unravel_index(int(both.argmax()), both.shape)
    return ConfusedPair(
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
        found += [
            Source(recipe.name, one.name, "start", one.licence, one.sha256, one.provenance)
            for one in record.run.start_origins
        ]
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
