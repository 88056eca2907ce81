"""The bundled detector: two small networks in the runtime of the emotion models.

This project's trainer makes it; `models/DETECTOR.md` states its data and figures.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_daemon._lib import files
from edge_daemon._lib.tflite import first_line, open_interpreter, read_model, without_noise
from edge_daemon._lib.validation import PlainModel, Provenance, Share, read_json
from edge_daemon.detection.alignment import Square, extract_crop
from edge_daemon.detection.base import TRACKED_MARGIN, Framing
from edge_daemon.detection.decoding import (
    GEOMETRY,
    SCORE_EPSILON,
    STRIDES,
    Maps,
    decode,
    without_duplicates,
)
from edge_daemon.errors import DetectorError
from edge_daemon.records import Box, Detection, Image, Landmarks

MAX_VERIFICATIONS: Final = 20
"""In one image, of its best detections."""
PATCH_SIDE: Final = 48
"""Of the patch that the verifier sees, in pixels."""
PATCH_SCALE: Final = 1.75
"""Side of a patch in longer sides of the detection's box, which is in its middle."""
MAX_VERIFIED_SIDE: Final = 48.0
"""Longer side of the largest face that is verified, in pixels: of larger ones, the search sees more
than the verifier."""
MAX_EVIDENCE: Final = 1.5
"""Log-odds that the verifier may add to a score, or subtract."""
VERIFIED_WEIGHT: Final = 0.25
"""Of the verifier's box and landmarks; the detection's have the rest."""

REDUCTION: Final = 3
"""Factor by which an image is reduced for a search for larger faces, and again for the next."""
REDUCTIONS: Final = (REDUCTION, REDUCTION**2)
MIN_REDUCED_FACE: Final = 25
"""Width in a reduced image from which its faces count, in pixels. The network does not know faces
wider than 110 pixels, and takes parts of them for faces."""


class DetectorMetrics(PlainModel):
    """Figures of the file itself on whole photos that were held out of the training."""

    photos: int
    average_precision: Share = Field(description="At an intersection over union of 0.5.")
    recall: Share = Field(description="At the default start score, as the following.")
    precision: Share
    false_positives: float = Field(ge=0.0, description="In a photo.")
    landmark_error: float = Field(ge=0.0, description="Mean distance in parts of a face's size.")


class NetworkFile(PlainModel):
    """One of the detector's networks."""

    file: str = Field(pattern=r"^[A-Za-z0-9._-]+\.tflite$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    mmac: float = Field(
        gt=0.0,
        description="Million multiply-accumulates: of the search in 192x192 pixels, or of the "
        "verification of one face.",
    )
    parameters: int = Field(gt=0)


class DetectorManifest(PlainModel):
    """The manifest, `detector.json`.

    It is separate from the ensemble's in the same folder, so either can be replaced alone.
    """

    schema_version: Literal[1]
    search: NetworkFile
    verifier: NetworkFile
    framing: Framing
    metrics: DetectorMetrics
    provenance: Provenance

    def files_in(self, folder: Path) -> tuple[Path, Path]:
        """The files of the search and of the verifier, where the manifest is in this folder."""
        return folder / self.search.file, folder / self.verifier.file


def read_manifest(path: Path) -> DetectorManifest:
    """Read a manifest and check its model files.

    Raises:
        DetectorError: the manifest is missing or invalid, or a model is missing or altered.
    """
    manifest = read_json(DetectorManifest, path, DetectorError)
    for network in (manifest.search, manifest.verifier):
        if fault := files.fault(path.parent / network.file, network.sha256):
            raise DetectorError(f"{fault}; install the detector again")
    return manifest


def write_manifest(manifest: DetectorManifest, path: Path) -> None:
    """Write it to `path`, in the folder of its models."""
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
        self._search = FaceSearch(*content.files_in(manifest.parent), threads)

    def detect(self, bgr: Image) -> list[Detection]:
        grey = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)
        min_score = max(0.0, self.start_score - TRACKED_MARGIN)
        return self._search.faces(grey, min_score, self.start_score)


class FaceSearch:
    """Finds faces in grey images of any size, and verifies the doubtful ones.

    For verification a second network sees each face alone. It needs a hundredth of the search's
    time, and has learnt from the search's false positives and weakest finds. The idea is that of
    cascades, whose later networks verify the candidates of the first and correct their boxes
    (Zhang et al. 2016, MTCNN).

    Args:
        search: file of the network that sees images.
        verifier: file of the network that sees single faces.
        threads: number of threads of their kernels.

    Raises:
        DetectorError: one of them cannot run, or is not of its kind.
    """

    def __init__(self, search: Path, verifier: Path, threads: int) -> None:
        # One network for each size, since setting another size takes time.
        self._full = MapNetwork(search, threads)
        self._reduced = {factor: MapNetwork(search, threads) for factor in REDUCTIONS}
        self._verifier = VerifierNetwork(verifier, threads)

    def faces(self, grey: Image, min_score: float, certain_score: float = 1.0) -> list[Detection]:
        """The faces in an image, best first.

        Args:
            grey: the image, uint8 [H, W].
            min_score: of a face, 0 to 1.
            certain_score: faces that are certain to have it are not verified.
        """
        accepted, doubtful = self.candidates(grey, min_score, certain_score)
        faces = accepted + [self._verified(grey, face) for face in doubtful]
        return without_duplicates([face for face in faces if face.score >= min_score])

    def candidates(
        self, grey: Image, min_score: float, certain_score: float
    ) -> tuple[list[Detection], list[Detection]]:
        """The faces that are not verified, and those that are, best first. Arguments as above.

        All scores that the verifier could raise to the minimum are among them.
        """
        accepted: list[Detection] = []
        doubtful: list[Detection] = []
        # From this score on, the verifier cannot take the certain one away.
        kept_score = with_evidence(certain_score, MAX_EVIDENCE)
        for face in self._search(grey, with_evidence(min_score, -MAX_EVIDENCE)):
            is_small = max(face.box.width, face.box.height) <= MAX_VERIFIED_SIDE
            is_doubtful = is_small and face.score < kept_score
            is_verified = is_doubtful and len(doubtful) < MAX_VERIFICATIONS
            (doubtful if is_verified else accepted).append(face)
        return accepted, doubtful

    def _search(self, grey: Image, min_score: float) -> list[Detection]:
        found = decode(*self._full.maps(grey), min_score)
        for factor, reduced in reduced_images(grey):
            for face in decode(*self._reduced[factor].maps(reduced), min_score):
                if face.box.width >= MIN_REDUCED_FACE:
                    found.append(face.scaled(factor))
        return without_duplicates(found)

    def _verified(self, grey: Image, face: Detection) -> Detection:
        """The face with the score, box and landmarks that both networks agree on."""
        evidence, geometry = self._verifier.predict(cut_patch(grey, face.box))
        score = with_evidence(face.score, min(max(evidence, -MAX_EVIDENCE), MAX_EVIDENCE))
        box, landmarks = decode_geometry(geometry, face.box)
        old, new = 1 - VERIFIED_WEIGHT, VERIFIED_WEIGHT
        mean_box = Box(*(old * a + new * b for a, b in zip(face.box, box, strict=True)))
        if face.landmarks is None:
            return Detection(mean_box, score)
        return Detection(mean_box, score, old * face.landmarks + np.float32(new) * landmarks)


def with_evidence(score: float, evidence: float) -> float:
    """A score, 0 to 1, after these log-odds were added to its own."""
    score = min(max(score, SCORE_EPSILON), 1 - SCORE_EPSILON)
    return 1 / (1 + (1 / score - 1) * math.exp(-evidence))


def reduced_images(grey: Image) -> list[tuple[int, Image]]:
    """The images for the searches for large faces, uint8 [H, W], with their factors."""
    images, scale = [], 1 / REDUCTION
    for factor in REDUCTIONS:
        if min(grey.shape) < MIN_REDUCED_FACE * REDUCTION:
            break
        reduced = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        grey = np.asarray(reduced, np.uint8)
        images.append((factor, grey))
    return images


def cut_patch(grey: Image, box: Box) -> Image:
    """The patch of an image by which a face is verified, uint8 [PATCH_SIDE, PATCH_SIDE].

    Args:
        grey: the image, uint8 [H, W].
        box: of the face.
    """
    square = Square(*box.centre, PATCH_SCALE * max(box.width, box.height), roll=0.0)
    return extract_crop(grey, square, PATCH_SIDE)


def decode_geometry(geometry: NDArray[np.float32], patch_box: Box) -> tuple[Box, Landmarks]:
    """The box and landmarks that the verifier found in a patch, in the image's pixels.

    Args:
        geometry: float32 [GEOMETRY], in longer sides of the patch's box, relative to its centre;
            of the box's sides, the logarithms.
        patch_box: the box that the patch was cut for.
    """
    unit = max(patch_box.width, patch_box.height)
    points = patch_box.centre + unit * geometry.reshape(-1, 2)
    width, height = (unit * np.exp(geometry[2:4])).tolist()
    x, y = points[0].tolist()
    return Box(x - width / 2, y - height / 2, width, height), points[2:].astype(np.float32)


class VerifierNetwork:
    """The verifier alone, from the patch of one face to the evidence and its geometry.

    Args:
        path: the `.tflite` file.
        threads: number of threads of its kernels.

    Raises:
        DetectorError: it cannot run, or is not a verifier.
    """

    def __init__(self, path: Path, threads: int) -> None:
        with _runtime_errors(path):
            self._interpreter = open_interpreter(read_model(path), threads)
            with without_noise():
                self._interpreter.allocate_tensors()
            self._interpreter.invoke()
        pixels, outputs = _interface(path, self._interpreter)
        self._input = pixels["index"]
        outputs.sort(key=lambda details: details["shape"][-1])  # the evidence has one number
        self._outputs = [details["index"] for details in outputs]
        shapes = [details["shape"].tolist() for details in (pixels, *outputs)]
        if shapes != [[1, PATCH_SIDE, PATCH_SIDE, 1], [1, 1], [1, GEOMETRY]]:
            raise DetectorError(
                f"{path}: not a verifier: must have an input of {PATCH_SIDE}x{PATCH_SIDE} pixels, "
                f"and outputs of 1 and {GEOMETRY} numbers"
            )

    def predict(self, patch: Image) -> tuple[float, NDArray[np.float32]]:
        """The log-odds that a patch, uint8 [PATCH_SIDE, PATCH_SIDE], shows a face; its geometry.

        The geometry is float32 [GEOMETRY], see `decode_geometry`.
        """
        self._interpreter.set_tensor(self._input, patch[np.newaxis, ..., np.newaxis])
        self._interpreter.invoke()
        evidence, geometry = map(self._interpreter.get_tensor, self._outputs)
        return float(evidence[0, 0]), geometry[0]


class MapNetwork:
    """The network alone, from a grey image of any size to its maps.

    Args:
        path: the `.tflite` file.
        threads: number of threads of its kernels.

    Raises:
        DetectorError: it cannot run, or is not a detector of this kind.
    """

    def __init__(self, path: Path, threads: int) -> None:
        with _runtime_errors(path):
            self._interpreter = open_interpreter(read_model(path), threads)
            self._input = self._interpreter.get_input_details()[0]["index"]
            self._resize((STRIDES[-1], STRIDES[-1]))
            self._interpreter.invoke()
        _, outputs = _interface(path, self._interpreter)
        shapes = sorted(tuple(map(int, map_["shape"])) for map_ in outputs)
        sides = [self._shape[0] // stride for stride in STRIDES]
        if shapes != sorted((1, side, side, depth) for side in sides for depth in (1, GEOMETRY)):
            raise DetectorError(f"{path}: must have two maps for each stride of {STRIDES}")

    def maps(self, grey: Image) -> tuple[Maps, Maps]:
        """Scores and geometry (see `decoding`) of a grey image, uint8 [H, W]."""
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
        """Fit the network's input to images of this shape, rows and columns."""
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


@contextmanager
def _runtime_errors(path: Path) -> Iterator[None]:
    """Refuse a model file that cannot run; some damage only shows in the first run."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise DetectorError(f"{path}: cannot run this model: {first_line(error)}") from error


def _interface(path: Path, interpreter: Any) -> tuple[Any, list[Any]]:  # noqa: ANN401  # untyped
    """The runtime's details of a network's input and outputs, whose types are checked."""
    pixels, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()
    if pixels["dtype"] != np.uint8 or any(it["dtype"] != np.float32 for it in outputs):
        raise DetectorError(f"{path}: input must be uint8 and outputs float32")
    return pixels, outputs


def padded_side(pixels: int) -> int:
    """An image's side with the padding to whole cells of the coarsest map."""
    coarsest: Final = STRIDES[-1]
    return -(-pixels // coarsest) * coarsest
