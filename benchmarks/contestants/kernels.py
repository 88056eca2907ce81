"""The bare kernels: what no pipeline of these parts can do without, in one loop.

For each frame the decoder, the detector's network or cascade with the image that it needs, and
the models' networks. Written with OpenCV and the TFLite runtime alone: their outputs are ignored.
The models see the very crops that the daemon's pipeline cuts from the same frames; those were
cut and stacked before the time is taken, all faces and their mirror images as one batch a network.
Likewise the bundled detector's network sees the patches that the daemon verifies.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.cases import Case, Round
from benchmarks.contestants.timing import timed
from benchmarks.frames import follower_of, frames_of
from benchmarks.settings import settings_of
from edge_daemon._lib.files import bundled_detector
from edge_daemon._lib.tflite import interpreter_type
from edge_daemon.config.settings import Settings
from edge_daemon.detection import bundled, detector_from_settings, haar, yunet
from edge_daemon.detection.base import TRACKED_MARGIN
from edge_daemon.detection.bundled import FaceSearch, cut_patch, read_manifest
from edge_daemon.detection.step import resize_to_max_side
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.records import CROP_SIDE, Image

Kernel = Callable[[Image, Sequence[Image]], object]
"""Of a detector: an image, and patches of it, of which only the bundled one makes use."""

Batches = dict[str, Image]
"""The input of each network, by its file."""


@dataclass(frozen=True)
class Prepared:
    """The inputs of one frame's networks.

    Attributes:
        faces: number of faces that are scored.
        patches: grey uint8 [side, side] each, for the detector.
        batches: for the models.
    """

    faces: int
    patches: Sequence[Image]
    batches: Batches


def measure(case: Case) -> Round:
    cv2.setNumThreads(case.threads)
    detect, ask, frames = _prepared(case)
    upcoming = itertools.cycle(frames)

    def kernels(image: Image) -> int:
        prepared = next(upcoming)
        detect(image, prepared.patches)
        ask(prepared.batches)
        return prepared.faces

    return timed(case, kernels)


@lru_cache(maxsize=8)
def _prepared(case: Case) -> tuple[Kernel, Callable[[Batches], None], list[Prepared]]:
    """The detector's kernel, the models', and each frame's inputs."""
    settings = settings_of(replace(case, every=1))
    frames = list(_inputs(settings, _views(Path(case.bundle))))
    return _detector(settings), _models(case, [frame.batches for frame in frames]), frames


def _views(bundle: Path) -> dict[str, list[bool]]:
    """Whether each network is shown faces as they are, mirrored, or both."""
    views: dict[str, list[bool]] = {}
    for member in read_bundle(bundle).members:
        views.setdefault(member.file, []).append(member.mirrored)
    return views


def _batches(crops: Image, views: Mapping[str, list[bool]]) -> Batches:
    """What each network is asked about, uint8 [N, 48, 48, 1]; nothing where there is no face."""
    if not len(crops):
        return {}
    steps = {file: [-1 if mirrored else 1 for mirrored in seen] for file, seen in views.items()}
    return {
        file: np.concatenate([crops[:, :, ::step] for step in seen])[..., np.newaxis]
        for file, seen in steps.items()
    }


def _inputs(settings: Settings, views: Mapping[str, list[bool]]) -> Iterator[Prepared]:
    """The inputs of each frame of one round of the clip."""
    follower = follower_of(settings, detector_from_settings(settings))
    doubtful = _doubtful_patches(settings)
    for frame in frames_of(settings):
        faces = [item.face for item in follower(frame).faces]
        image = resize_to_max_side(frame.bgr, settings.detection.max_side)
        crops = [face.crop for face in faces if face.unscored is None]
        stacked = np.stack(crops) if crops else np.empty((0, CROP_SIDE, CROP_SIDE), np.uint8)
        yield Prepared(len(crops), doubtful(image), _batches(stacked, views))


def _doubtful_patches(settings: Settings) -> Callable[[Image], list[Image]]:
    """The patches of an image that the bundled detector verifies; none by other detectors."""
    if settings.detection.detector != "bundled":
        return lambda _image: []
    score = settings.detection.min_score
    search = FaceSearch(*_bundled_files(), threads=1)

    def patches(image: Image) -> list[Image]:
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        _, doubtful = search.candidates(grey, max(0.0, score - TRACKED_MARGIN), score)
        return [cut_patch(grey, face.box) for face in doubtful]

    return patches


def _models(case: Case, frames: Sequence[Batches]) -> Callable[[Batches], None]:
    """All networks in a row, with the memory for each size of batch."""
    shapes = {(file, batch.shape) for batches in frames for file, batch in batches.items()}
    networks = {
        (file, shape): _network(Path(case.bundle) / file, case.threads, shape)
        for file, shape in shapes
    }

    def ask(batches: Batches) -> None:
        for file, batch in batches.items():
            networks[file, batch.shape](batch)

    return ask


def _network(path: Path, threads: int, shape: tuple[int, ...]) -> Callable[[Any], list[Any]]:
    """A TFLite model as a function from an array of this shape to its outputs."""
    interpreter = interpreter_type()(model_path=str(path), num_threads=threads)
    input_index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(input_index, shape)
    interpreter.allocate_tensors()
    output_indices = [details["index"] for details in interpreter.get_output_details()]

    def run(array: Any) -> list[Any]:  # noqa: ANN401  # of the model's own dtype
        interpreter.tensor(input_index)()[:] = array
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in output_indices]

    return run


def _detector(settings: Settings) -> Kernel:
    """The detector's kernel, after the reduction of an image to the detector's size."""
    detection = settings.detection
    if detection.detector == "haar":
        return _haar(detection.max_side, detection.min_size)
    if detection.detector == "yunet":
        return _yunet(detection.max_side, detection.model or Path(), detection.min_score)
    return _bundled(detection.max_side, settings.inference.threads)


def _haar(longest: int, least: int) -> Kernel:
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / haar.CASCADE))

    def detect(image: Image, _patches: Sequence[Image]) -> object:
        grey = cv2.equalizeHist(_reduced(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), longest))
        return cascade.detectMultiScale3(
            grey,
            scaleFactor=haar.SCALE_STEP,
            minNeighbors=haar.MIN_NEIGHBOURS,
            minSize=(least, least),
            outputRejectLevels=True,
        )

    return detect


def _yunet(longest: int, model: Path, least_score: float) -> Kernel:
    score = max(0.0, least_score - TRACKED_MARGIN)
    network = cv2.FaceDetectorYN.create(
        str(model), "", (0, 0), score, yunet.NMS_THRESHOLD, yunet.MAX_CANDIDATES
    )

    def detect(image: Image, _patches: Sequence[Image]) -> object:
        small = _reduced(image, longest)
        network.setInputSize((small.shape[1], small.shape[0]))
        return network.detect(small)

    return detect


def _bundled(longest: int, threads: int) -> Kernel:
    path, verifier = _bundled_files()
    verify = _network(verifier, threads, (1, bundled.PATCH_SIDE, bundled.PATCH_SIDE, 1))
    networks: dict[tuple[int, ...], Callable[[Any], list[Any]]] = {}

    def search(grey: Any) -> None:  # noqa: ANN401  # OpenCV's arrays
        height, width = (bundled.padded_side(side) for side in grey.shape)
        if grey.shape != (height, width):
            bottom, right = height - grey.shape[0], width - grey.shape[1]
            grey = cv2.copyMakeBorder(grey, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
        shape = (1, height, width, 1)
        if shape not in networks:
            networks[shape] = _network(path, threads, shape)
        networks[shape](grey[np.newaxis, ..., np.newaxis])

    def detect(image: Image, patches: Sequence[Image]) -> None:
        grey = _reduced(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), longest)
        search(grey)
        for _, reduced in bundled.reduced_images(grey):
            search(reduced)
        for patch in patches:
            verify(patch[np.newaxis, ..., np.newaxis])

    return detect


def _bundled_files() -> tuple[Path, Path]:
    """The bundled detector's networks: the search's and the verifier's."""
    path = bundled_detector()
    return read_manifest(path).files_in(path.parent)


def _reduced(image: Any, longest: int) -> Any:  # noqa: ANN401  # OpenCV's arrays
    """The image with this longer side, in the way that costs least."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(scale * image.shape[1]), round(scale * image.shape[0]))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
