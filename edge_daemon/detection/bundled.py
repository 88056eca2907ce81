"""The bundled detector: a small network in the runtime of the emotion models.

This project's trainer makes it; `models/DETECTOR.md` states its data and figures.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from pydantic import Field

from edge_daemon._lib import files
from edge_daemon._lib.tflite import first_line, open_interpreter, read_model, without_noise
from edge_daemon._lib.validation import PlainModel, Provenance, Share, read_json
from edge_daemon.detection.alignment import Square, extract_crop
from edge_daemon.detection.base import TRACKED_MARGIN, Framing
from edge_daemon.detection.decoding import GEOMETRY, STRIDES, Maps, decode, without_duplicates
from edge_daemon.errors import DetectorError
from edge_daemon.records import MIRRORED_LANDMARKS, Box, Detection, Image

MAX_VERIFICATIONS: Final = 20
"""In one picture, of its best detections."""
PATCH_WEIGHT: Final = 0.4
"""Of a patch's score and position; the picture's have the rest."""
SMALL_PATCH_SIDE: Final = 64
LARGE_PATCH_SIDE: Final = 96
"""Of the patches that verify small and large faces, in pixels."""
PATCH_FACE: Final = 2 / 3
"""The face's share of its patch's side: it is 43 or 64 pixels, which the network knows best."""
MAX_SMALL_FACE: Final = 32
"""Longer side of the largest face that is verified in a small patch, in pixels."""
MIN_PATCH_IOU: Final = 0.3
"""Intersection over union of picture's and patch's boxes from which they are of the same face."""
MIN_PATCH_SCORE: Final = 0.1
"""Score of a patch in which the face is not found."""

REDUCTION: Final = 3
"""Factor by which a picture is reduced for a search for larger faces, and again for the next."""
REDUCTIONS: Final = (REDUCTION, REDUCTION**2)
MIN_REDUCED_FACE: Final = 25
"""Width in a reduced picture from which its faces count, in pixels. The network does not know faces
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
    manifest = read_json(DetectorManifest, path, DetectorError)
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
        min_score = max(0.0, self.start_score - TRACKED_MARGIN)
        return self._search.faces(grey, min_score, self.start_score)


class FaceSearch:
    """Finds faces in grey pictures of any size, and verifies the doubtful ones.

    For verification the network sees a patch with the face alone, mirrored, at a size that it
    knows well. Picture and patch err independently: their mean has half of the false positives at
    the same recall. The idea is that of cascades, whose later networks verify the candidates of
    the first (Zhang et al. 2016, MTCNN).

    Args:
        path: the network's `.tflite` file.
        threads: number of threads of its kernels.

    Raises:
        DetectorError: it cannot run, or is not a detector of this kind.
    """

    def __init__(self, path: Path, threads: int) -> None:
        # One network for each size, since setting another size takes time.
        self._full = MapNetwork(path, threads)
        self._reduced = {factor: MapNetwork(path, threads) for factor in REDUCTIONS}
        self._patches = {
            side: MapNetwork(path, threads) for side in (SMALL_PATCH_SIDE, LARGE_PATCH_SIDE)
        }

    def faces(self, grey: Image, min_score: float, certain_score: float = 1.0) -> list[Detection]:
        """The faces in a picture, best first.

        Args:
            grey: the picture, uint8 [H, W].
            min_score: of a face, 0 to 1.
            certain_score: faces that are certain to have it are not verified.
        """
        found = self.candidates(grey, min_score)
        certain = [face for face in found if is_certain(face, certain_score)]
        doubtful = found[len(certain) :]  # those with the lower scores
        verified = [self._verify(grey, face) for face in doubtful[:MAX_VERIFICATIONS]]
        faces = certain + [face for face in verified if face.score >= min_score]
        return without_duplicates(faces + doubtful[MAX_VERIFICATIONS:])

    def candidates(self, grey: Image, min_score: float) -> list[Detection]:
        """The faces before their verification, best first. Arguments as above."""
        found = decode(*self._full.maps(grey), min_score)
        for factor, reduced in reduced_pictures(grey):
            for face in decode(*self._reduced[factor].maps(reduced), min_score):
                if face.box.width >= MIN_REDUCED_FACE:
                    found.append(face.scaled(factor))
        return without_duplicates(found)

    def _verify(self, grey: Image, face: Detection) -> Detection:
        """The mean of a detection and what the network finds in its patch."""
        patch, square = cut_patch(grey, face.box)
        side = len(patch)
        found = decode(*self._patches[side].maps(patch), MIN_PATCH_SCORE)
        # The face is in the middle of the patch, so mirroring does not move its box.
        scale = square.side / side
        width, height = face.box.width / scale, face.box.height / scale
        expected_box = Box((side - width) / 2, (side - height) / 2, width, height)
        for detection in found:
            if detection.box.iou(expected_box) >= MIN_PATCH_IOU:
                return _mean(face, detection, square, side)
        return replace(face, score=_mean_score(face.score, MIN_PATCH_SCORE))


def is_certain(face: Detection, score: float) -> bool:
    """Whether a face keeps this score even if its patch lacks it."""
    return _mean_score(face.score, MIN_PATCH_SCORE) >= score


def reduced_pictures(grey: Image) -> list[tuple[int, Image]]:
    """The pictures for the searches for large faces, uint8 [H, W], with their factors."""
    pictures, scale = [], 1 / REDUCTION
    for factor in REDUCTIONS:
        if min(grey.shape) < MIN_REDUCED_FACE * REDUCTION:
            break
        reduced = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        grey = np.asarray(reduced, np.uint8)
        pictures.append((factor, grey))
    return pictures


def cut_patch(grey: Image, box: Box) -> tuple[Image, Square]:
    """The mirrored patch that verifies a face, uint8 [side, side], and its place in the picture.

    Args:
        grey: the picture, uint8 [H, W].
        box: of the face.
    """
    longer = max(box.width, box.height)
    side = LARGE_PATCH_SIDE if longer > MAX_SMALL_FACE else SMALL_PATCH_SIDE
    square = Square(*box.centre, longer / PATCH_FACE, roll=0.0)
    return np.ascontiguousarray(extract_crop(grey, square, side)[:, ::-1]), square


def _mean(face: Detection, mirrored: Detection, square: Square, side: int) -> Detection:
    """A detection in the picture and that in its mirrored patch as one.

    Args:
        face: in the picture.
        mirrored: the same face in the patch.
        square: the patch in the picture, with the face's box in its middle.
        side: of the patch in pixels.
    """
    scale, weight = square.side / side, PATCH_WEIGHT
    x, y, width, height = mirrored.box
    # From the middle of the patch to the box; x runs the other way.
    right, down = scale * (side / 2 - x - width / 2), scale * (y + height / 2 - side / 2)
    width = (1 - weight) * face.box.width + weight * scale * width
    height = (1 - weight) * face.box.height + weight * scale * height
    left, top = square.x + weight * right - width / 2, square.y + weight * down - height / 2
    box, score = Box(left, top, width, height), _mean_score(face.score, mirrored.score)
    if face.landmarks is None or mirrored.landmarks is None:
        return Detection(box, score)
    offsets = (mirrored.landmarks[MIRRORED_LANDMARKS] - side / 2) * (-scale, scale)
    moved = offsets + np.array(square[:2])
    landmarks = (1 - weight) * face.landmarks + weight * moved
    return Detection(box, score, landmarks.astype(np.float32))


def _mean_score(in_image: float, in_patch: float) -> float:
    """The score of the mean of both log-odds."""
    odds = (1 / in_image - 1) ** (1 - PATCH_WEIGHT) * (1 / in_patch - 1) ** PATCH_WEIGHT
    return float(1 / (1 + odds))


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
        if grey.shape != self._shape:
            self._resize((height, width))
        pixels = self._interpreter.tensor(self._input)()[0, :, :, 0]
        pixels[:height, :width] = grey
        pixels[height:], pixels[:, width:] = 0, 0
        # The interpreter does not run while a view of its memory exists.
        del pixels
        self._interpreter.invoke()
        tensors = map(self._interpreter.get_tensor, self._outputs)
        maps = [*map(np.reshape, tensors, self._map_shapes)]
        return maps[: len(STRIDES)], maps[len(STRIDES) :]

    def _resize(self, shape: tuple[int, int]) -> None:
        """Fit the network's input to pictures of this shape, rows and columns."""
        size = map(padded_side, shape)
        self._interpreter.resize_tensor_input(self._input, [1, *size, 1])
        with without_noise():
            self._interpreter.allocate_tensors()
        self._shape = shape
        # The runtime has its own order of outputs. Scores have fewer channels than geometry.
        outputs = self._interpreter.get_output_details()
        outputs.sort(key=lambda details: (details["shape"][-1], -details["shape"][1]))
        self._outputs = [details["index"] for details in outputs]
        # Without the batch's dimension, and of scores without the channel's.
        self._map_shapes = [
            tuple(details["shape"][1:3] if details["shape"][-1] == 1 else details["shape"][1:])
            for details in outputs
        ]

    def _check_interface(self) -> None:
        pixels = self._interpreter.get_input_details()[0]
        outputs = self._interpreter.get_output_details()
        if pixels["dtype"] != np.uint8 or any(map_["dtype"] != np.float32 for map_ in outputs):
            raise DetectorError(f"{self._path}: input must be uint8 and outputs float32")
        shapes = sorted(tuple(map(int, map_["shape"])) for map_ in outputs)
        sides = [self._shape[0] // stride for stride in STRIDES]
        if shapes != sorted((1, side, side, depth) for side in sides for depth in (1, GEOMETRY)):
            raise DetectorError(f"{self._path}: must have two maps for each stride of {STRIDES}")


def padded_side(pixels: int) -> int:
    """A picture's side with the padding to whole cells of the coarsest map."""
    coarsest: Final = STRIDES[-1]
    return -(-pixels // coarsest) * coarsest
