"""Models that apply for a place in a bundle: those of runs, and those of bundles that are there."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras

from edge_daemon._lib.files import sha256_of
from edge_daemon._lib.validation import Provenance
from edge_daemon.inference.bundle import Member, Metrics, read_bundle
from emotion_trainer.data import Dataset
from emotion_trainer.errors import ExportError
from emotion_trainer.evaluation.answers import Answers, answers_of, ask
from emotion_trainer.export.int8 import Agreement, agreement_of
from emotion_trainer.models.families import cost
from emotion_trainer.models.predictions import is_bundle
from emotion_trainer.training.provenance import RunRecord
from emotion_trainer.training.runs import Run


class Applicant(ABC):
    """A model with an int8 file, which may see faces as they are, mirrored, or both."""

    @property
    @abstractmethod
    def name(self) -> str:
        """That of its recipe."""

    @property
    @abstractmethod
    def file(self) -> Path:
        """The int8 file."""

    @property
    @abstractmethod
    def original(self) -> Path | None:
        """The float model that it comes from, where that is at hand."""

    @property
    @abstractmethod
    def mmac(self) -> float:
        """Million multiply-accumulates for one face."""

    @property
    @abstractmethod
    def record(self) -> RunRecord | None:
        """What its training was made of, where that is still known."""

    @abstractmethod
    def answers(self, dataset: Dataset, *, mirrored: bool) -> Answers:
        """What the int8 file says of the validation split."""

    @abstractmethod
    def as_member(self, weight: float, metrics: Metrics, *, mirrored: bool) -> Member:
        """What a manifest says of it."""

    def agreement(self, dataset: Dataset, *, mirrored: bool) -> Agreement | None:
        """How the int8 file answers beside the original."""
        if self.original is None:
            return None
        original = answers_of(self.original, dataset, mirrored=mirrored)
        exported = self.answers(dataset, mirrored=mirrored)
        return agreement_of(
            original.log_probabilities.argmax(axis=1),
            exported.log_probabilities.argmax(axis=1),
            original.labels,
        )


@dataclass(frozen=True)
class TrainedModel(Applicant):
    """The best weights of an exported run."""

    run: Run

    @cached_property
    def record(self) -> RunRecord:
        """The run's."""
        return self.run.record()

    @property
    def name(self) -> str:
        """That of the run's recipe."""
        return self.record.recipe.name

    @property
    def file(self) -> Path:
        """The run's export."""
        return self.run.require_exported()

    @property
    def original(self) -> Path:
        """The weights that were exported."""
        return self.run.best

    @property
    def mmac(self) -> float:
        """Counted in the network."""
        return cost.mmac(self._network)

    def answers(self, dataset: Dataset, *, mirrored: bool) -> Answers:
        """Asked for once, then kept in the run's folder."""
        return answers_of(self.file, dataset, mirrored=mirrored)

    def as_member(self, weight: float, metrics: Metrics, *, mirrored: bool) -> Member:
        """With the run's provenance."""
        return Member(
            file=self.file.name,
            sha256=sha256_of(self.file),
            family=self.record.recipe.model.family,
            mirrored=mirrored,
            quantisation="int8",
            mmac=round(self.mmac, 2),
            parameters=cost.parameters(self._network),
            weight=weight,
            metrics=metrics,
            provenance=Provenance(
                recipe=self.name,
                seed=self.record.recipe.seed,
                data_fingerprint=self.record.data_fingerprint,
                commit=self.record.commit,
                mlflow_run_id=self.run.mlflow_run_id,
            ),
        )

    @cached_property
    def _network(self) -> keras.Model:
        return self.run.best_model()


@dataclass(frozen=True)
class BundledModel(Applicant):
    """A model of a bundle, whose run need not be there any more.

    Args:
        folder: the bundle's.
        entry: the model's in the bundle's manifest; one of them, if it is two members.
    """

    folder: Path
    entry: Member

    @property
    def name(self) -> str:
        """That of its recipe."""
        return self.entry.provenance.recipe

    @property
    def file(self) -> Path:
        """The bundle's copy."""
        return self.folder / self.entry.file

    @property
    def original(self) -> None:
        """A bundle has no float models."""
        return

    @property
    def mmac(self) -> float:
        """As the manifest has it."""
        return self.entry.mmac

    @property
    def record(self) -> None:
        """A manifest tells of a training only what identifies it."""
        return

    def answers(self, dataset: Dataset, *, mirrored: bool) -> Answers:
        """Asked for anew: nothing is to be left in a bundle's folder."""
        return ask(self.file, dataset, mirrored=mirrored)

    def as_member(self, weight: float, metrics: Metrics, *, mirrored: bool) -> Member:
        """The entry, with what is new."""
        new = {"weight": weight, "metrics": metrics, "mirrored": mirrored}
        return self.entry.model_copy(update=new)


def applicants_in(folders: Iterable[Path]) -> list[Applicant]:
    """The models in folders of exported runs and of bundles.

    Raises:
        BundleError, TrainingError: a bundle or a run's record is damaged.
        ExportError: a run's recipe says that it is not to be bundled.
    """
    return [applicant for folder in folders for applicant in _applicants_of(folder)]


def _applicants_of(folder: Path) -> list[Applicant]:
    if is_bundle(folder):
        models = {member.file: member for member in read_bundle(folder).members}
        return [BundledModel(folder, member) for member in models.values()]
    trained = TrainedModel(Run(folder))
    if not trained.record.recipe.bundled:
        raise ExportError(f"{folder}: its recipe has bundled = false; remove it from the arguments")
    return [trained]
