"""The bundled detector's manifest, `detector.json`, and the check of its model file.

It is separate from the ensemble's manifest in the same folder, so either can be replaced alone.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edge_daemon._lib import files
from edge_daemon._lib.validation import PlainModel, Provenance, Share, problems
from edge_daemon.detection.base import Framing
from edge_daemon.errors import DetectorError


class DetectorMetrics(PlainModel):
    """Figures of the file itself on whole photos that were held out of the training."""

    photos: int
    average_precision: Share = Field(description="At an intersection over union of 0.5.")
    recall: Share = Field(description="At the default start score, as the following.")
    precision: Share
    false_positives: float = Field(ge=0.0, description="In a photo.")
    landmark_error: float = Field(ge=0.0, description="Mean distance in parts of a face's size.")


class DetectorManifest(PlainModel):
    """The manifest."""

    schema_version: Literal[1]
    file: str = Field(pattern=r"^[A-Za-z0-9._-]+\.tflite$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    mmac: float = Field(gt=0.0, description="Million multiply-accumulates at 192x192 pixels.")
    parameters: int = Field(gt=0)
    framing: Framing
    metrics: DetectorMetrics
    provenance: Provenance


def read_manifest(path: Path) -> DetectorManifest:
    """Read a manifest and check its model file.

    Raises:
        DetectorError: the manifest is missing or invalid, or the model is missing or altered.
    """
    try:
        manifest = DetectorManifest.model_validate_json(files.read_regular(path))
    except OSError as error:
        raise DetectorError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise DetectorError(f"{path}: {problems(error)}") from error
    if fault := files.fault(path.parent / manifest.file, manifest.sha256):
        raise DetectorError(f"{fault}; install the detector again")
    return manifest


def write_manifest(manifest: DetectorManifest, path: Path) -> None:
    """Write it to `path`, in the folder of its model."""
    path.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
