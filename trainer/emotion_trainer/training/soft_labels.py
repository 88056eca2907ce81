"""Soft labels: teachers' predictions for training and unlabelled faces, in one file.

The file is NumPy's `.npz`: `header` (JSON, see `Header`), `training` float16 [N, 7] and,
where there are unlabelled faces, `unlabelled` float16 [M, 7]. They are log-probabilities in the
order of the faces. The header holds a fingerprint of
either set of faces, so that labels of other faces, or of the same faces in another order, are
refused.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from edge_daemon.inference.ensemble import log_softmax
from edge_daemon.records import EMOTIONS
from emotion_trainer.data.dataset import Dataset, Sample, faces_fingerprint
from emotion_trainer.errors import TrainingError

LogProbabilities = NDArray[np.float16]


class Teacher(BaseModel):
    """An origin of soft labels: a teacher, or a model or weights that it was trained from.

    Attributes:
        name: of the recipe or of the bundle, or the file's.
        sha256: of the model's file or of the bundle's manifest; empty where it was not kept.
        licence: of the weights that it started from or, without any, its own.
        provenance: how it was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    licence: str
    provenance: str


class Header(BaseModel):
    """The teachers of a file of soft labels with what they were trained from, and its faces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    emotions: tuple[str, ...] = EMOTIONS
    teachers: tuple[Teacher, ...]
    training_sha256: str
    unlabelled_sha256: str | None


@dataclass(frozen=True)
class SoftLabels:
    """Log-probabilities, float16 [N, 7] and [M, 7], and where they come from."""

    header: Header
    training: LogProbabilities
    unlabelled: LogProbabilities

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        teachers: tuple[Teacher, ...],
        training: NDArray[np.floating],
        unlabelled: NDArray[np.floating],
    ) -> Self:
        """Soft labels for a data set's training and unlabelled faces."""
        header = Header(
            teachers=teachers,
            training_sha256=faces_fingerprint(dataset.training.images),
            unlabelled_sha256=dataset.unlabelled_fingerprint,
        )
        return cls(header, training.astype(np.float16), unlabelled.astype(np.float16))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            TrainingError: it is missing, damaged or of another layout.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                header = Header.model_validate_json(str(file["header"]))
                labels = cls(header, file["training"], file["unlabelled"])
        except FileNotFoundError as error:
            raise TrainingError(f"{path}: no such file") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = "invalid header" if isinstance(error, ValidationError) else error
            raise TrainingError(f"{path}: damaged, or not soft labels: {reason}") from error
        if header.emotions != EMOTIONS:
            raise TrainingError(f"{path}: of other emotions, or in another order; write it again")
        for array in (labels.training, labels.unlabelled):
            if array.dtype != np.float16 or array.shape[1:] != (len(EMOTIONS),):
                raise TrainingError(f"{path}: invalid array (got {array.dtype} {array.shape})")
            if not np.isfinite(array).all():
                raise TrainingError(f"{path}: not all values are finite numbers; write it again")
        return labels

    def save(self, path: Path) -> None:
        """Write the file; a kill leaves the file before it intact."""
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez_compressed(
                file,
                header=np.array(self.header.model_dump_json()),
                training=self.training,
                unlabelled=self.unlabelled,
            )
        unfinished.replace(path)

    def restricted_to(self, dataset: Dataset, source: object) -> Self:
        """The labels of a data set's faces, which may be a sample of those in the file.

        Args:
            dataset: the faces; without unlabelled ones, their labels are left out.
            source: names the labels in an error.

        Raises:
            TrainingError: the training or the unlabelled faces are not those of the labels.
        """
        fingerprint = faces_fingerprint(dataset.training.images)
        rows = _rows(self.header.training_sha256, fingerprint, dataset.training_sample)
        if rows is None:
            raise TrainingError(
                f"{source}: soft labels of other training faces; "
                "use the same --data and --split, or run `emotion-trainer teach` on them"
            )
        training, unlabelled = self.training[rows], self.unlabelled[:0]
        if dataset.unlabelled_fingerprint is not None:
            rows = _rows(
                self.header.unlabelled_sha256,
                dataset.unlabelled_fingerprint,
                dataset.unlabelled_sample,
            )
            if rows is None:
                raise TrainingError(
                    f"{source}: soft labels of other unlabelled faces; "
                    "use the same --unlabelled, or run `emotion-trainer teach` on them"
                )
            unlabelled = self.unlabelled[rows]
        if (len(training), len(unlabelled)) != (len(dataset.training), len(dataset.unlabelled)):
            raise TrainingError(f"{source}: not as many soft labels as faces; write it again")
        return type(self).of(dataset, self.header.teachers, training, unlabelled)


def _rows(
    labelled_sha256: str | None, faces_sha256: str, sample: Sample | None
) -> slice | NDArray[np.int64] | None:
    """The rows of labels that are those of some faces; None if they are of other faces.

    Args:
        labelled_sha256: fingerprint of the faces that the labels are of.
        faces_sha256: fingerprint of the faces.
        sample: which faces of a larger set they are, if they are a part of one.
    """
    if labelled_sha256 == faces_sha256:
        return slice(None)
    if sample is not None and labelled_sha256 == sample.whole_sha256:
        return sample.indices
    return None


def average(labels: list[SoftLabels]) -> SoftLabels:
    """Mean log-probabilities, normalised: the geometric mean of the teachers' distributions.

    All must be of the same training faces; unlabelled ones are kept where all have the same.
    """
    first = labels[0].header
    complete = len({one.header.unlabelled_sha256 for one in labels}) == 1
    header = first.model_copy(
        update={
            "teachers": tuple(dict.fromkeys(t for one in labels for t in one.header.teachers)),
            "unlabelled_sha256": first.unlabelled_sha256 if complete else None,
        }
    )
    unlabelled = [one.unlabelled for one in labels] if complete else [labels[0].unlabelled[:0]]
    return SoftLabels(header, _mean([one.training for one in labels]), _mean(unlabelled))


def _mean(labels: list[LogProbabilities]) -> LogProbabilities:
    mean = np.mean([one.astype(np.float32) for one in labels], axis=0)
    return log_softmax(mean).astype(np.float16)
