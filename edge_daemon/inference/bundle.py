"""The manifest of a model bundle, `bundle.json`, and the check of its files.

The trainer writes manifests with the same classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, ValidationInfo, field_validator

from edge_daemon._lib import files
from edge_daemon._lib.validation import PlainModel, Provenance, Share, read_json
from edge_daemon.errors import BundleError
from edge_daemon.records import CROP_SIDE, EMOTIONS

MANIFEST_NAME: Final = "bundle.json"

FER2013_SHARES: Final[Mapping[str, float]] = {
    "angry": 0.1301,
    "disgust": 0.0156,
    "fear": 0.1382,
    "happy": 0.2494,
    "sad": 0.1819,
    "surprise": 0.1156,
    "neutral": 0.1691,
}
"""Of the labels of FER2013's PublicTest."""


class InputSpec(PlainModel):
    """Input of a member: grey pixels without normalisation, which is part of the model."""

    shape: tuple[int, int, int] = (CROP_SIDE, CROP_SIDE, 1)
    dtype: Literal["uint8"] = "uint8"

    @field_validator("shape")
    @classmethod
    def _is_the_crop(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if shape != (CROP_SIDE, CROP_SIDE, 1):
            raise ValueError(f"must be [{CROP_SIDE}, {CROP_SIDE}, 1], the daemon's crop")
        return shape


class Metrics(PlainModel):
    """Metrics of the bundled file on one split of a data set."""

    split: str
    accuracy: Share
    recall: dict[str, Share] = Field(description="Recall of each emotion.")
    calibration_error: Share | None = Field(
        default=None, description="Expected calibration error over 15 bins."
    )


class Member(PlainModel):
    """One model of the ensemble, applied to the faces or to mirrored faces."""

    file: str = Field(pattern=r"^[A-Za-z0-9._-]+\.tflite$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    family: str
    input: InputSpec = InputSpec()
    mirrored: bool = Field(default=False, description="Whether its input is mirrored.")
    quantisation: Literal["int8", "float32"]
    mmac: float = Field(gt=0.0, description="Million multiply-accumulates for one face.")
    parameters: int = Field(gt=0)
    weight: float = Field(
        ge=1e-9, le=1e6, description="Share in the ensemble's mean of log-probabilities."
    )
    metrics: Metrics
    provenance: Provenance


class Ensemble(PlainModel):
    """How the members' outputs are combined."""

    adjustment: dict[str, Annotated[float, Field(ge=-100.0, le=100.0)]] = Field(
        default={}, description="Added to an emotion's mean log-probability; absent: nothing."
    )
    temperatures: tuple[Annotated[float, Field(ge=0.01, le=100.0)], ...] = Field(
        description="Divide the adjusted mean log-probabilities of the first member, of the first "
        "two, and so on to all: fewer members are less often right."
    )
    shares: dict[str, Share] = Field(
        default=dict(FER2013_SHARES),
        description="Share of each emotion in the data that the probabilities are calibrated on; "
        "absent: PublicTest's.",
    )
    metrics: Metrics

    @field_validator("shares")
    @classmethod
    def _of_all_emotions(cls, shares: dict[str, float]) -> dict[str, float]:
        if shares.keys() != set(EMOTIONS):
            raise ValueError(f"must hold {', '.join(EMOTIONS)}")
        return shares

    @field_validator("adjustment")
    @classmethod
    def _of_emotions(cls, adjustment: dict[str, float]) -> dict[str, float]:
        if unknown := adjustment.keys() - set(EMOTIONS):
            raise ValueError(f"must have labels as keys (got {', '.join(sorted(unknown))})")
        return adjustment


class Bundle(PlainModel):
    """A manifest. An anytime ensemble runs the members in this order."""

    schema_version: Literal[1]
    bundle_id: str
    created: AwareDatetime
    labels: tuple[str, ...]
    members: tuple[Member, ...]
    ensemble: Ensemble

    @field_validator("labels")
    @classmethod
    def _in_the_fixed_order(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if labels != EMOTIONS:
            raise ValueError(f"must be {', '.join(EMOTIONS)}, in this order")
        return labels

    @field_validator("members")
    @classmethod
    def _not_empty(cls, members: tuple[Member, ...]) -> tuple[Member, ...]:
        if not members:
            raise ValueError("must name at least one model")
        return members

    @field_validator("ensemble")
    @classmethod
    def _fits_the_members(cls, ensemble: Ensemble, info: ValidationInfo) -> Ensemble:
        members = info.data.get("members", ensemble.temperatures)
        if len(ensemble.temperatures) != len(members):
            raise ValueError(
                f"must have a temperature for each number of members, {len(members)} in all "
                f"(got {len(ensemble.temperatures)})"
            )
        return ensemble


def read_bundle(folder: Path) -> Bundle:
    """Read `folder/bundle.json` and check every member file against it.

    Raises:
        BundleError: the manifest is missing or refused, or a member is missing or altered.
    """
    missing = (
        f"inference.bundle: no {MANIFEST_NAME} in this folder (got {folder}); name a folder "
        "written by 'emotion-trainer bundle'"
    )
    bundle = read_json(Bundle, folder / MANIFEST_NAME, BundleError, missing)
    for member in bundle.members:
        if fault := files.fault(folder / member.file, member.sha256):
            raise BundleError(f"{fault}; install the bundle again")
    return bundle


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write the manifest into `folder`, next to its member files."""
    (folder / MANIFEST_NAME).write_text(bundle.model_dump_json(indent=2) + "\n", encoding="utf-8")
