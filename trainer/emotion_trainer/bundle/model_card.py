"""The model card: a bundle's README, every figure of which is measured when the bundle is made.

The prose is in `templates/model_card.md`. Here is what it tells beyond the manifest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.balancing import MIN_RECALL
from emotion_trainer.bundle.bundling import Bundled, display_name
from emotion_trainer.bundle.clips import ClipAnswers
from emotion_trainer.data import Dataset, Split
from emotion_trainer.data.dataset import PUBLIC_TEST, VOTES
from emotion_trainer.data.splitting import STRATIFIED_NAME
from emotion_trainer.evaluation.metrics import confuse, measure_unlearnt
from emotion_trainer.models.families import imagenet
from emotion_trainer.templating import render

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
"""What FER+ calls each emotion."""


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


def model_card(bundled: Bundled, dataset: Dataset, clips: Sequence[ClipAnswers] = ()) -> str:
    """The card, Markdown."""
    split = dataset.validation
    confusion = confuse(bundled.probabilities, split.labels)
    faces = np.bincount(dataset.training.labels, minlength=len(EMOTIONS))
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
        agreements=bundled.agreements,
        unbalanced=bundled.unbalanced,
        min_recall=MIN_RECALL,
        cross_fitted=bundled.cross_fitted,
        training=len(dataset.training),
        validation=len(split),
        votes=_votes_shares(bundled) if dataset.training.votes.any() else [],
        pretrained=_pretrained(bundled),
        teachers=_teachers(bundled),
        confusion=confusion,
        unlearnt=measure_unlearnt(bundled.probabilities, dataset),
        clips=clips,
        shares=_answer_counts(dataset.validation_name, confusion, clips),
        seen_as_labelled=_seen_as_labelled(split),
        weakest=weakest(confusion),
        mixed_up=most_confused(confusion),
        rarest=(EMOTIONS[int(faces.argmin())], int(faces.min())),
        taken_over=_taken_over(bundled),
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
    """Of each label's faces, the share of each answer: float64 [7, 7]."""
    shares: NDArray[np.float64] = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return shares


def _answer_counts(
    split: str, confusion: Matrix, clips: Sequence[ClipAnswers]
) -> dict[str, Matrix]:
    return {
        f"{split}, labels": confusion.sum(axis=1),
        f"{split}, answers": confusion.sum(axis=0),
        **{f"`{answers.clip}`": answers.counts for answers in clips},
    }


def _seen_as_labelled(split: Split) -> float | None:
    """The share of the faces with votes whose label has the most of them; None without votes."""
    votes = split.votes[split.votes.any(axis=1)]
    labels = split.labels[split.votes.any(axis=1)]
    if not len(votes):
        return None
    columns = np.array([VOTES.index(VOTE_FOR[name]) for name in EMOTIONS])
    of_label = votes[np.arange(len(votes)), columns[labels]]
    return float((of_label == votes.max(axis=1)).mean())


def _votes_shares(bundled: Bundled) -> list[float]:
    return sorted({record.recipe.targets.votes_share for record in bundled.records} - {0.0})


def _pretrained(bundled: Bundled) -> list[str]:
    """The members that went on from weights of others."""
    recipes = [record.recipe for record in bundled.records]
    named = (
        recipe.name
        for recipe in recipes
        if isinstance(recipe.model, imagenet.Settings) and recipe.model.weights
    )
    return list(dict.fromkeys(named))


def _teachers(bundled: Bundled) -> list[str]:
    sections = [record.recipe.distillation for record in bundled.records]
    return sorted(
        {path.stem for one in sections if one for path in (*one.teachers, *one.soft_labels)}
    )


def _taken_over(bundled: Bundled) -> list[str]:
    """Recipes of the members that came from an earlier bundle."""
    trained = {record.recipe.name for record in bundled.records}
    names = (member.provenance.recipe for member in bundled.bundle.members)
    return [name for name in dict.fromkeys(names) if name not in trained]


def _recipe_names(bundled: Bundled) -> list[str]:
    names = {member.provenance.recipe for member in bundled.bundle.members}
    return sorted(names | set(bundled.left_out))
