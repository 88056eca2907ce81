"""The description of a data set that `prepare` prints."""

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import EMOTIONS
from emotion_trainer.data.dataset import TRAINING, Dataset, Split
from emotion_trainer.data.duplicates import Duplicates, Repeats


def describe(dataset: Dataset, duplicates: Duplicates) -> str:
    """Faces by emotion and split, duplicates, unreadable images and fingerprint, as Markdown."""
    return "\n".join(
        [
            *_counts(dataset),
            "",
            *_repeats(duplicates, dataset.validation_name),
            "",
            str(dataset.unreadable),
            *(f"- {fault}" for fault in dataset.unreadable.faults),
            "",
            f"data fingerprint {dataset.fingerprint}",
        ]
    )


def _counts(dataset: Dataset) -> list[str]:
    splits = (dataset.training, dataset.validation)
    by_emotion = np.stack([_per_emotion(split) for split in splits], axis=1)
    lines = [f"| emotion | {TRAINING} | {dataset.validation_name} |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {a} | {b} |" for name, (a, b) in zip(EMOTIONS, by_emotion, strict=True)]
    voted = [int(split.votes.any(axis=1).sum()) for split in splits]
    lines.append(f"| all | {len(splits[0])} | {len(splits[1])} |")
    lines.append(f"| with FER+ votes | {voted[0]} | {voted[1]} |")
    return lines


def _per_emotion(split: Split) -> NDArray[np.int64]:
    return np.asarray(np.bincount(split.labels, minlength=len(EMOTIONS)), np.int64)


def _repeats(found: Duplicates, name: str) -> list[str]:
    return [
        "| identical images | faces | of them with another label there |",
        "| --- | ---: | ---: |",
        _repeats_row(f"{TRAINING}, more than once in it", found.in_training),
        _repeats_row(f"{name}, more than once in it", found.in_validation),
        _repeats_row(f"{name}, also in {TRAINING}", found.across),
    ]


def _repeats_row(title: str, repeats: Repeats) -> str:
    return f"| {title} | {repeats.faces.sum()} | {repeats.contradicted.sum()} |"
