"""The origins of a model: itself, and the models and weights that it was trained from.

The records of runs and the headers of soft labels have them, so the licences of all predecessors of
a model are known.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edge_daemon._lib.files import sha256_of
from edge_daemon.inference.bundle import MANIFEST_NAME, read_bundle
from emotion_trainer.bundle.records import ModelRecord, read_records
from emotion_trainer.models.families.initial_weights import InitialWeights
from emotion_trainer.models.predictions import is_bundle, is_run
from emotion_trainer.recipe import Recipe
from emotion_trainer.training.provenance import RunRecord, weights_file
from emotion_trainer.training.runs import Run
from emotion_trainer.training.soft_labels import SoftLabels, Teacher

OWN_LICENCE: Final = "Apache-2.0"
UNKNOWN_LICENCE: Final = "unknown"


def origins_of(model: Path) -> tuple[Teacher, ...]:
    """A model, and what it was trained from as far as that is on record.

    Args:
        model: folder of a run or of a bundle, or a `.keras` or `.tflite` file in one or elsewhere.

    Raises:
        TrainingError, BundleError, ExportError: a record, soft labels or a manifest is damaged.
        OSError: the model cannot be read.
    """
    folder = model if model.is_dir() else model.parent
    if is_bundle(folder):
        origins = _of_bundle(folder) if model.is_dir() else _of_member(folder, model)
    elif is_run(folder):
        origins = _of_run(Run(folder), model)
    else:
        origins = [_of_unknown(model)]
    return tuple(dict.fromkeys(origins))


def origins_of_start(recipe: Recipe) -> tuple[Teacher, ...]:
    """The origins of the model that a recipe continues from; none if there is no such file."""
    start = recipe.start
    return origins_of(start) if start is not None and start.is_file() else ()


def _of_bundle(folder: Path) -> list[Teacher]:
    bundle = read_bundle(folder)
    itself = Teacher(
        name=bundle.bundle_id,
        sha256=sha256_of(folder / MANIFEST_NAME),
        licence=OWN_LICENCE,
        provenance=f"model bundle of {bundle.created.date()}",
    )
    return [itself, *_sources_of_all(read_records(folder).values())]


def _of_member(folder: Path, file: Path) -> list[Teacher]:
    """The origins of a model of a bundle."""
    record = read_records(folder).get(file.name)
    if record is None:
        return [_of_unknown(file)]
    itself = Teacher(
        name=record.run.recipe.name,
        sha256=sha256_of(file),
        licence=_licence_of(record.run.recipe),
        provenance=f"commit {record.run.commit}; of {read_bundle(folder).bundle_id}",
    )
    return [itself, *_sources_of_all([record])]


def _of_run(run: Run, model: Path) -> list[Teacher]:
    record = run.record()
    kept = run.soft_labels
    teachers = SoftLabels.load(kept).header.teachers if kept.exists() else ()
    itself = Teacher(
        name=record.recipe.name,
        sha256=sha256_of(model if model.is_file() else run.best),
        licence=_licence_of(record.recipe),
        provenance=f"commit {record.commit}",
    )
    return [itself, *_sources(record, teachers)]


def _of_unknown(file: Path) -> Teacher:
    return Teacher(
        name=file.name,
        sha256=sha256_of(file),
        licence=UNKNOWN_LICENCE,
        provenance="training not recorded",
    )


def _sources_of_all(records: Iterable[ModelRecord]) -> list[Teacher]:
    return [one for record in records for one in _sources(record.run, record.teachers)]


def _sources(record: RunRecord, teachers: tuple[Teacher, ...]) -> list[Teacher]:
    """The origins of a run: pretrained weights, teachers, and the model that it continues."""
    weights = weights_file(record.recipe)
    if weights is None:
        return [*teachers, *record.start_origins]
    initial = Teacher(
        name=weights.name,
        sha256=record.weights_sha256 or "",
        licence=_licence_of(record.recipe),
        provenance=f"initial weights of {record.recipe.name}",
    )
    return [initial, *teachers, *record.start_origins]


def _licence_of(recipe: Recipe) -> str:
    """The licence of the weights that the network starts from, or this project's."""
    model = recipe.model
    if not isinstance(model, InitialWeights) or model.weights is None:
        return OWN_LICENCE
    return model.licence or UNKNOWN_LICENCE
