"""The bundled detector: a small network in the runtime of the emotion models.

This project's trainer makes it; `models/DETECTOR.md` states its data and figures.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from pydantic import Field, ValidationError

from edge_daemon._lib import files
from edge_daemon._lib.tflite import first_line, open_interpreter, read_model, without_noise
from edge_daemon._lib.validation import PlainModel, Provenance, Share, problems
from edge_daemon.detection.alignment import Square, cut_crop
from edge_daemon.detection.base import TRACKED_MARGIN, Framing
from edge_daemon.detection.decoding import (
    GEOMETRY,
    STRIDES,
    Maps,
    decode,
    logit,
    without_duplicates,
)
from edge_daemon.errors import DetectorError
from edge_daemon.records import Box, Detection, Image

SURE_SCORE: Final = 0.85
"""Score from which a face is not verified: on held-out photos, no false positive has it."""
MAX_VERIFICATIONS: Final = 10
"""In one picture, of its best detections. Each costs about a twentieth of a search at 640x426."""
PATCH_SIDE: Final = 96
"""Side of the patch that verifies a face, in pixels; the face has half of it."""
MIN_PATCH_IOU: Final = 0.3
"""Intersection over union of picture's and patch's boxes from which they are of the same face."""
MIN_PATCH_SCORE: Final = 0.1
"""Score of a patch in which the face is not found."""

MIN_LARGE_FACE: Final = 60
"""Pixels: faces from this width are searched at half size too. The network does not know faces
wider than 110 pixels, and takes parts of them for faces."""


class DetectorMetrics(PlainModel):
    """Figures of the file itself on whole photos that were held out of the training."""

    photos: int
    average_precision: Share = Field(description="At an intersection over union of 0.5.")
    recall: Share = Field(description="At the default start score, as the following.")
    precision: Share
    false_positives: float = Field(ge=0.0, description="In a photo.")
    landmark_error: float = Field(ge=0.0, description="Mean distance in parts of a face's size.")


class DetectorManifest(PlainModel):
    """The manifest, `detector.json`.

    It is separate from the ensemble's in the same folder, so either can be replaced alone.
    """

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


class BundledDetector:
    """Faces with five landmarks, found in grey.

    Args:
        manifest: the file that names the model.
        min_score: minimum score of a face that is not tracked yet, 0 to 1.
        threads: number of threads of the network.

    Raises:
        DetectorError: the manifest is invalid, or its model cannot run.
    """

    name = "bundled"

    def __init__(self, manifest: Path, min_score: float, threads: int = 1) -> None:
        content = read_manifest(manifest)
        self.framing = content.framing
        self.start_score = min_score
        self._search = FaceSearch(manifest.parent / content.file, threads)

    def detect(self, bgr: Image) -> list[Detection]:
        grey = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)
        return self._search.faces(grey, max(0.0, self.start_score - TRACKED_MARGIN))


class FaceSearch:
    """Finds faces in grey pictures of any size, and verifies those whose score is not high.

    For verification the network sees a patch with the face alone, mirrored, at the size that it
    knows best. Picture and patch err independently, so their mean has half of the false positives
    at the same recall, and better boxes. The idea is that of cascades, whose later networks
    verify the candidates of the first (Zhang et al. 2016, MTCNN).

    Args:
        path: the network's `.tflite` file.
        threads: number of threads of its kernels.

    Raises:
        DetectorError: it cannot run, or is not a detector of this kind.
    """

    def __init__(self, path: Path, threads: int) -> None:
        # One network for each size, since setting another size takes time.
        self._full, self._half, self._patch = (MapNetwork(path, threads) for _ in range(3))

    def faces(self, grey: Image, min_score: float) -> list[Detection]:
        """The faces in a picture, best first.

        Args:
            grey: the picture, uint8 [H, W].
            min_score: of a face, 0 to 1.
        """
        found = decode(*self._full.maps(grey), min_score)
        if min(grey.shape) >= MIN_LARGE_FACE:
            half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            large = (
                d.enlarged(2.0)
                for d in decode(*self._half.maps(np.asarray(half, np.uint8)), min_score)
            )
            found += [d for d in large if d.box.width >= MIN_LARGE_FACE]
        found = without_duplicates(found)
        is_sure = not found or found[-1].score >= SURE_SCORE
        return found if is_sure else self._verify_all(grey, found, min_score)

    def _verify_all(self, grey: Image, found: list[Detection], min_score: float) -> list[Detection]:
        """Verify the detections that are not sure; those from `min_score` remain, best first."""
        sure = [face for face in found if face.score >= SURE_SCORE]
        unsure = found[len(sure) :]
        verified = [self._verify(grey, face) for face in unsure[:MAX_VERIFICATIONS]]
        faces = [*sure, *verified, *unsure[MAX_VERIFICATIONS:]]
        return without_duplicates([face for face in faces if face.score >= min_score])

    def _verify(self, grey: Image, face: Detection) -> Detection:
        """The mean of a detection and what the network finds in its patch."""
        scale = PATCH_SIDE / 2 / max(face.box.width, face.box.height)
        square = Square(*face.box.centre, PATCH_SIDE / scale, roll=0.0)
        patch = np.ascontiguousarray(cut_crop(grey, square, PATCH_SIDE)[:, ::-1])
        left, top = square.x - square.side / 2, square.y - square.side / 2
        # The face is in the middle of the patch, so mirroring does not move its box.
        expected = face.moved(-left, -top).enlarged(scale).box
        found = decode(*self._patch.maps(patch), MIN_PATCH_SCORE)
        same = next((d for d in found if d.box.iou(expected) >= MIN_PATCH_IOU), None)
        if same is None:
            return replace(face, score=_mean_score(face.score, MIN_PATCH_SCORE))
        return _mean(face, same.mirrored(PATCH_SIDE).enlarged(1 / scale).moved(left, top))


def _mean(one: Detection, other: Detection) -> Detection:
    """Two detections of the same face as one."""
    box = Box(*((a + b) / 2 for a, b in zip(one.box, other.box, strict=True)))
    score = _mean_score(one.score, other.score)
    if one.landmarks is None or other.landmarks is None:
        return Detection(box, score)
    return Detection(box, score, (one.landmarks + other.landmarks) / np.float32(2))


def _mean_score(one: float, other: float) -> float:
    """The score of two detections of a face: the mean of their log-odds."""
    return 1 / (1 + math.exp(-(logit(one) + logit(other)) / 2))


class MapNetwork:
    """The network alone, from a grey picture of any size to its maps.

    Args:
        path: the `.tflite` file.
        threads: number of threads of its kernels.

    Raises:
        DetectorError: it cannot run, or is not a detector of this kind.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        try:
            self._interpreter = open_interpreter(read_model(path), threads)
            self._input = self._interpreter.get_input_details()[0]["index"]
            self._resize((STRIDES[-1], STRIDES[-1]))
            self._interpreter.invoke()  # some damage only shows here
        except (ValueError, RuntimeError) as error:
            raise DetectorError(f"{path}: cannot run this model: {first_line(error)}") from error
        self._check_interface()

    def maps(self, grey: Image) -> tuple[Maps, Maps]:
        """Scores and geometry (see `decoding`) of a grey picture, uint8 [H, W]."""
        height, width = grey.shape
        padded = (padded_side(height), padded_side(width))
        if padded != self._size:
            self._resize(padded)
        pixels = self._interpreter.tensor(self._input)()[0, :, :, 0]
        pixels[:height, :width] = grey
        pixels[height:], pixels[:, width:] = 0, 0
        # The interpreter does not run while a view of its memory exists.
        del pixels
        self._interpreter.invoke()
        maps = [self._interpreter.get_tensor(index)[0] for index in self._outputs]
        levels = len(STRIDES)
        return [scores[..., 0] for scores in maps[:levels]], maps[levels:]

    def _resize(self, size: tuple[int, int]) -> None:
        """Set the rows and columns of the network's input."""
        self._interpreter.resize_tensor_input(self._input, [1, *size, 1])
        with without_noise():
            self._interpreter.allocate_tensors()
        self._size = size
        # The runtime has its own order of outputs. Scores have fewer channels than geometry.
        outputs = self._interpreter.get_output_details()
        outputs.sort(key=lambda details: (details["shape"][-1], -details["shape"][1]))
        self._outputs = [details["index"] for details in outputs]

    def _check_interface(self) -> None:
        pixels = self._interpreter.get_input_details()[0]
        outputs = self._interpreter.get_output_details()
        if pixels["dtype"] != np.uint8 or any(map_["dtype"] != np.float32 for map_ in outputs):
            raise DetectorError(f"{self._path}: input must be uint8 and outputs float32")
        shapes = sorted(tuple(map(int, map_["shape"])) for map_ in outputs)
        sides = [self._size[0] // stride for stride in STRIDES]
        if shapes != sorted((1, side, side, depth) for side in sides for depth in (1, GEOMETRY)):
            raise DetectorError(f"{self._path}: must have two maps for each stride of {STRIDES}")


def padded_side(pixels: int) -> int:
    """A picture's side with the padding to whole cells of the coarsest map."""
    coarsest: Final = STRIDES[-1]
    return -(-pixels // coarsest) * coarsest
