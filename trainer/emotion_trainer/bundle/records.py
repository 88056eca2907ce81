"""`training.json`: how a bundle's models were trained, kept next to its manifest.

The daemon does not read it. The model card is made from it, also when a bundle's models join
another bundle and their runs are gone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from emotion_trainer.errors import ExportError
from emotion_trainer.export.int8 import Agreement
from emotion_trainer.training.provenance import RunRecord
from emotion_trainer.training.soft_labels import Teacher

RECORDS_NAME: Final = "training.json"

View = Literal["plain", "mirrored"]
"""The view of faces that a member gets."""


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


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    models: dict[str, ModelRecord]


def view_of(*, mirrored: bool) -> View:
    """The name of a view."""
    return "mirrored" if mirrored else "plain"


def read_records(folder: Path) -> dict[str, ModelRecord]:
    """The records of a bundle's models, by file name; empty if the bundle has none.

    Raises:
        ExportError: the file is damaged.
    """
    path = folder / RECORDS_NAME
    try:
        return _File.model_validate_json(path.read_bytes()).models
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise ExportError(f"{path}: damaged, or of another version; remove it") from error


def write_records(records: Mapping[str, ModelRecord], folder: Path) -> None:
    """Write the records next to the manifest."""
    text = _File(models=dict(records)).model_dump_json(indent=2)
    (folder / RECORDS_NAME).write_text(text + "\n", encoding="utf-8")
