"""The record of a bundling in `training.json`: its options, and the candidates left out."""

import math
from collections.abc import Sequence
from pathlib import Path

from edge_daemon.inference.bundle import Metrics
from emotion_trainer.bundle.ensembling import Selection, cross_fit
from emotion_trainer.bundle.recipe_files import relative_path
from emotion_trainer.bundle.records import Bundling, LeftOut
from emotion_trainer.bundle.views import Views, models_in, stack
from emotion_trainer.data import Dataset


def record_bundling(
    views: Views,
    dataset: Dataset,
    left_out: tuple[LeftOut, ...] = (),
    max_mmac: float = math.inf,
    recipes: Sequence[Path] = (),
) -> Bundling:
    """Record the bundling of these candidates.

    Args:
        views: those of all candidates.
        dataset: whose validation split they predict.
        left_out: those that are no members.
        max_mmac: million multiply-accumulates of all members together, for one face.
        recipes: files of the recipes; empty: they are searched for.
    """
    found = sorted(model.recipe_file for model in models_in(views).values())
    return Bundling(
        recipes=tuple(map(relative_path, recipes)) or tuple(found),
        unlabelled=_use_unlabelled(views, dataset),
        mirrored=any(view.mirrored for view in views),
        max_mmac=max_mmac if math.isfinite(max_mmac) else None,
        left_out=left_out,
        cross_fitted=_cross_fit(views, dataset, max_mmac),
    )


def remeasure_bundling(recorded: Bundling | None, views: Views, dataset: Dataset) -> Bundling:
    """The record of an existing bundle, with cross-fitted figures measured again.

    Where the bundle lacks the file of a candidate that was left out, the figures stay.

    Args:
        recorded: the record in its `training.json`; None if it has none.
        views: those of the bundle's files.
        dataset: whose validation split they predict.
    """
    if recorded is None:
        return record_bundling(views, dataset)
    if {one.file for one in recorded.left_out} - models_in(views).keys():
        return recorded
    limit = math.inf if recorded.max_mmac is None else recorded.max_mmac
    return recorded.model_copy(update={"cross_fitted": _cross_fit(views, dataset, limit)})


def left_out_of(views: Views, selection: Selection) -> tuple[LeftOut, ...]:
    """The views that are no members, with the reason."""
    return tuple(
        view.as_left_out("max_mmac" if i in selection.too_costly else "weight")
        for i, view in enumerate(views)
        if not selection.fit.weights[i]
    )


def _cross_fit(views: Views, dataset: Dataset, max_mmac: float) -> Metrics:
    mmac = [view.mmac for view in views]
    split = dataset.validation
    return cross_fit(stack(views), split.labels, mmac, max_mmac, dataset.validation_name)


def _use_unlabelled(views: Views, dataset: Dataset) -> bool:
    """Whether any model was trained on unlabelled faces."""
    records = (model.record(dataset, views=()) for model in models_in(views).values())
    return any(record is not None and record.run.unlabelled_fingerprint for record in records)
