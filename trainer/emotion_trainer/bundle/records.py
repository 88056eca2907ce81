"""`training.json`: how a bundle was put together and its models were trained.

It is next to the manifest, and the daemon does not read it. The model card is made from it, even if
a bundle's models join another bundle after their runs were deleted.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_daemon.inference.bundle import Metrics
from emotion_trainer.bundle.ensembling import NEGLIGIBLE
from emotion_trainer.errors import ExportError
from emotion_trainer.export.int8 import Agreement
from emotion_trainer.training.provenance import RunRecord
from emotion_trainer.training.soft_labels import Teacher

RECORDS_NAME: Final = "training.json"

View = Literal["plain", "mirrored"]
"""Whether a member sees faces as they are, or mirrored."""


class ModelRecord(BaseModel):
    """How one model was trained.

    Attributes:
        run: the record of its run.
        teachers: the origins of the soft labels that it was trained on.
        agreements: how the int8 file compares with the float model, by view.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: RunRecord
    teachers: tuple[Teacher, ...] = ()
    agreements: dict[View, Agreement] = {}


class LeftOut(BaseModel):
    """A view of a candidate that is no member of the bundle.

    Attributes:
        file: name of the model's int8 file.
        recipe: name of the model's recipe.
        mirrored: whether it would have seen mirrored faces.
        mmac: million multiply-accumulates for one face.
        reason: `weight`: it would have had less than 1 % of the weight. `max_mmac`: the members
            would have cost more than allowed with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    recipe: str
    mirrored: bool
    mmac: float
    reason: Literal["weight", "max_mmac"]

    @property
    def name(self) -> str:
        """The name of the view in texts."""
        return view_name(self.recipe, mirrored=self.mirrored)


class Bundling(BaseModel):
    """How a bundle was made of its candidates.

    Attributes:
        recipes: files of the recipes, relative to `trainer/`.
        unlabelled: whether a model was trained on unlabelled faces.
        mirrored: whether each model could be a second member that sees mirrored faces.
        max_mmac: limit on the million multiply-accumulates of all members; None: none.
        left_out: the candidates that are no members.
        cross_fitted: the ensemble's figures if it is selected and fitted on one half of the
            validation split and measured on the other. The manifest's figures are of a fit on all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipes: tuple[str, ...]
    unlabelled: bool
    mirrored: bool
    max_mmac: float | None = None
    left_out: tuple[LeftOut, ...] = ()
    cross_fitted: Metrics

    def reason(self, left_out: LeftOut) -> str:
        """The reason in words for which this view was left out."""
        if left_out.reason == "weight":
            return f"weight under {100 * NEGLIGIBLE:g} %"
        return f"over --max-mmac {self.max_mmac:.10g}"


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    bundling: Bundling | None = None
    models: dict[str, ModelRecord]


def view_of(*, mirrored: bool) -> View:
    """The name of a view."""
    return "mirrored" if mirrored else "plain"


def view_name(recipe: str, *, mirrored: bool) -> str:
    """The name of a model's view in texts: its recipe, and whether it is mirrored."""
    return recipe + (", mirrored" if mirrored else "")


def read_records(folder: Path) -> dict[str, ModelRecord]:
    """The records of a bundle's models, by file name; empty if the bundle has none.

    Raises:
        ExportError: the file is damaged.
    """
    file = _read(folder)
    return {} if file is None else file.models


def read_bundling(folder: Path) -> Bundling | None:
    """How a bundle was put together; None if that was not recorded.

    Raises:
        ExportError: the file is damaged.
    """
    file = _read(folder)
    return None if file is None else file.bundling


def write_records(bundling: Bundling, records: Mapping[str, ModelRecord], folder: Path) -> None:
    """Write `training.json` next to the manifest."""
    text = _File(bundling=bundling, models=dict(records)).model_dump_json(indent=2)
    (folder / RECORDS_NAME).write_text(text + "\n", encoding="utf-8")


def _read(folder: Path) -> _File | None:
    path = folder / RECORDS_NAME
    try:
        return _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ExportError(f"{path}: damaged, or of another version; remove it") from error
