"""The detector that comes along: a tiny network by the runtime of the emotion models.

It is trained by this project's own trainer; `models/DETECTOR.md` tells on what, and how well.
"""

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon._lib.tflite import first_line, open_interpreter, read_model
from edge_daemon.detection.base import Framing
from edge_daemon.detection.decoding import GEOMETRY, STRIDES, Maps, decode
from edge_daemon.detection.manifest import read_manifest
from edge_daemon.detection.reduction import reduced
from edge_daemon.errors import DetectorError
from edge_daemon.records import Detection, Image

CONTINUATION: Final = 0.2
"""How much less a score may be where a face is followed already: heads turn, and come back."""
LONGEST_SIDE: Final = 480
"""Larger pictures are reduced to it, in pixels: a face that can be read is still well found."""
SOFTNESS: Final = 0.5
"""By how much they are blurred before, as a standard deviation in pixels: what is finer than the
smaller picture can show would be noise there."""


class BundledDetector:
    """Faces and five landmarks, in grey.

    Args:
        manifest: the file that names the model.
        min_score: the least score of a face that is not followed yet, 0 to 1.
        threads: how many threads the network uses.

    Raises:
        DetectorError: the manifest is refused, or its model cannot be run.
    """

    name = "bundled"

    def __init__(self, manifest: Path, min_score: float, threads: int = 1) -> None:
        about = read_manifest(manifest)
        self.framing = Framing(**about.framing.model_dump())
        self.start_score = min_score
        self._network = MapNetwork(manifest.parent / about.file, threads)

    def detect(self, bgr: Image) -> list[Detection]:
        grey = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)
        if max(grey.shape) > LONGEST_SIDE:
            grey = np.asarray(cv2.GaussianBlur(grey, (3, 3), SOFTNESS), np.uint8)
        small = reduced(grey, LONGEST_SIDE)
        scores, geometry = self._network.maps(small)
        found = decode(scores, geometry, max(0.0, self.start_score - CONTINUATION))
        return [detection.enlarged(grey.shape[1] / small.shape[1]) for detection in found]


class MapNetwork:
    """The network alone: from a grey picture to its maps. It takes any size.

    Args:
        path: the `.tflite` file.
        threads: how many threads its kernels use.

    Raises:
        DetectorError: it cannot be run, or is no detector of this kind.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        try:
            self._interpreter = open_interpreter(read_model(path), threads)
            self._input = self._interpreter.get_input_details()[0]["index"]
            self._resize((STRIDES[-1], STRIDES[-1]))
            self._interpreter.invoke()  # some damage shows no earlier
        except (ValueError, RuntimeError) as error:
            raise DetectorError(
                f"{path}: not a model that can be run: {first_line(error)}"
            ) from error
        self._check_interface()

    def maps(self, grey: Image) -> tuple[Maps, Maps]:
        """Scores and geometry (see `decoding`) of a grey picture, uint8 [H, W]."""
        height, width = grey.shape
        padded = (_whole_cells(height), _whole_cells(width))
        if padded != self._size:
            self._resize(padded)
        pixels = self._interpreter.tensor(self._input)()[0, :, :, 0]
        pixels[:height, :width] = grey
        pixels[height:], pixels[:, width:] = 0, 0
        # A view that is still held would keep the interpreter from running.
        del pixels
        self._interpreter.invoke()
        maps = [self._interpreter.get_tensor(index)[0] for index in self._outputs]
        levels = len(STRIDES)
        return [scores[..., 0] for scores in maps[:levels]], maps[levels:]

    def _resize(self, size: tuple[int, int]) -> None:
        """Make the network ready for pictures of so many rows and columns."""
        self._interpreter.resize_tensor_input(self._input, [1, *size, 1])
        self._interpreter.allocate_tensors()
        self._size = size
        # The runtime gives the maps in an order of its own. Scores have the fewest channels.
        given = self._interpreter.get_output_details()
        given.sort(key=lambda details: (details["shape"][-1], -details["shape"][1]))
        self._outputs = [details["index"] for details in given]

    def _check_interface(self) -> None:
        taken = self._interpreter.get_input_details()[0]
        given = self._interpreter.get_output_details()
        if taken["dtype"] != np.uint8 or any(map_["dtype"] != np.float32 for map_ in given):
            raise DetectorError(f"{self._path}: must take uint8 and give float32")
        shapes = sorted(tuple(map(int, map_["shape"])) for map_ in given)
        sides = [self._size[0] // stride for stride in STRIDES]
        if shapes != sorted((1, side, side, depth) for side in sides for depth in (1, GEOMETRY)):
            raise DetectorError(f"{self._path}: must give two maps for each of {STRIDES}")


def _whole_cells(pixels: int) -> int:
    coarsest = STRIDES[-1]
    return -(-pixels // coarsest) * coarsest
