"""Candidates for a bundle: the models of runs and of existing bundles."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras

from edge_daemon._lib.files import sha256_of
from edge_daemon._lib.validation import Provenance
from edge_daemon.inference.bundle import Member, Metrics, read_bundle
from emotion_trainer.bundle.recipe_files import default_file, find_recipe, relative_path
from emotion_trainer.bundle.records import ModelRecord, View, read_bundling, read_records
from emotion_trainer.data import Dataset
from emotion_trainer.errors import ExportError
from emotion_trainer.evaluation.predictions import Predictions, predict, predictions_of
from emotion_trainer.export.int8 import Agreement, agreement_of
from emotion_trainer.models.families import cost
from emotion_trainer.models.predictions import is_bundle
from emotion_trainer.training.provenance import RunRecord
from emotion_trainer.training.runs import Run
from emotion_trainer.training.soft_labels import SoftLabels


class Candidate(ABC):
    """A model with an int8 file, which may see faces as they are, mirrored, or both."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of its recipe."""

    @property
    @abstractmethod
    def recipe_file(self) -> str:
        """The file of its recipe, relative to `trainer/`."""

    @property
    @abstractmethod
    def file(self) -> Path:
        """The int8 file."""

    @property
    @abstractmethod
    def mmac(self) -> float:
        """Million multiply-accumulates for one face."""

    @abstractmethod
    def record(self, dataset: Dataset, views: Collection[View]) -> ModelRecord | None:
        """How it was trained, where that is known, with the agreement of these views."""

    @abstractmethod
    def predictions(self, dataset: Dataset, *, mirrored: bool) -> Predictions:
        """The int8 file's predictions for the validation split."""

    @abstractmethod
    def as_member(self, weight: float, metrics: Metrics, *, mirrored: bool) -> Member:
        """Its entry in a manifest."""


@dataclass(frozen=True)
class TrainedModel(Candidate):
    """The best weights of an exported run."""

    run: Run

    @cached_property
    def run_record(self) -> RunRecord:
        """The run's record."""
        return self.run.record()

    @property
    def name(self) -> str:
        """The name of the run's recipe."""
        return self.run_record.recipe.name

    @property
    def recipe_file(self) -> str:
        """The recipe's file, searched for by name and settings."""
        return find_recipe(self.run_record.recipe)

    @property
    def file(self) -> Path:
        """The run's int8 file."""
        return self.run.require_exported()

    @property
    def mmac(self) -> float:
        """Counted in the network, and rounded as in a manifest."""
        return round(cost.mmac(self._network), 2)

    def record(self, dataset: Dataset, views: Collection[View]) -> ModelRecord:
        """The run's record, its teachers, and the agreement with its best weights."""
        labels = self.run.soft_labels
        return ModelRecord(
            run=self.run_record,
            teachers=SoftLabels.load(labels).header.teachers if labels.exists() else (),
            agreements={view: self._agreement(dataset, view) for view in views},
        )

    def _agreement(self, dataset: Dataset, view: View) -> Agreement:
        mirrored = view == "mirrored"
        original = predictions_of(self.run.best, dataset, mirrored=mirrored)
        exported = self.predictions(dataset, mirrored=mirrored)
        return agreement_of(
            original.log_probabilities.argmax(axis=1),
            exported.log_probabilities.argmax(axis=1),
            original.labels,
        )

    def predictions(self, dataset: Dataset, *, mirrored: bool) -> Predictions:
        """The predictions, computed once and stored in the run's folder."""
        return predictions_of(self.file, dataset, mirrored=mirrored)

    def as_member(self, weight: float, metrics: Metrics, *, mirrored: bool) -> Member:
        """An entry with the run's provenance."""
        return Member(
            file=self.file.name,
            sha256=sha256_of(self.file),
            family=self.run_record.recipe.model.family,
            mirrored=mirrored,
            quantisation="int8",
            mmac=self.mmac,
            parameters=cost.parameters(self._network),
            weight=weight,
            metrics=metrics,
            provenance=Provenance(
                recipe=self.name,
                seed=self.run_record.recipe.seed,
                data_fingerprint=self.run_record.data_fingerprint,
                commit=self.run_record.commit,
                mlflow_run_id=self.run.mlflow_run_id,
            ),
        )

    @cached_property
    def _network(self) -> keras.Model:
        return self.run.best_model()


@dataclass(frozen=True)
class BundledModel(Candidate):
    """A model of a bundle, whose run may have been deleted.

    Args:
        folder: the bundle's.
        entry: the model's entry in the manifest; one of its two, if it is also mirrored.
    """

    folder: Path
    entry: Member

    @property
    def name(self) -> str:
        """The name of its recipe."""
        return self.entry.provenance.recipe

    @property
    def recipe_file(self) -> str:
        """The file in the bundle's record, or else searched for."""
        bundling = read_bundling(self.folder)
        files = {Path(file).stem: file for file in bundling.recipes} if bundling else {}
        record = read_records(self.folder).get(self.entry.file)
        found = find_recipe(record.run.recipe) if record else relative_path(default_file(self.name))
        return files.get(self.name, found)

    @property
    def file(self) -> Path:
        """The bundle's copy."""
        return self.folder / self.entry.file

    @property
    def mmac(self) -> float:
        """The manifest's figure."""
        return self.entry.mmac

    def record(self, dataset: Dataset, views: Collection[View]) -> ModelRecord | None:  # noqa: ARG002
        """The bundle's copy of the record; its agreement is that of the first bundling."""
        return read_records(self.folder).get(self.entry.file)

    def predictions(self, dataset: Dataset, *, mirrored: bool) -> Predictions:
        """The predictions, computed each time: a bundle's folder stores none."""
        return predict(self.file, dataset, mirrored=mirrored)

    def as_member(self, weight: float, metrics: Metrics, *, mirrored: bool) -> Member:
        """The entry, with the new weight and metrics."""
        new = {"weight": weight, "metrics": metrics, "mirrored": mirrored}
        return self.entry.model_copy(update=new)


def candidates_in(folders: Iterable[Path]) -> list[Candidate]:
    """The models in folders of exported runs and of bundles.

    Raises:
        BundleError, TrainingError: a bundle or a run's record is damaged.
        ExportError: a run's recipe has bundled = false.
    """
    return [candidate for folder in folders for candidate in _candidates_of(folder)]


def _candidates_of(folder: Path) -> list[Candidate]:
    if is_bundle(folder):
        models = {member.file: member for member in read_bundle(folder).members}
        return [BundledModel(folder, member) for member in models.values()]
    trained = TrainedModel(Run(folder))
    if not trained.run_record.recipe.bundled:
        raise ExportError(f"{folder}: its recipe has bundled = false; remove it from the arguments")
    return [trained]
