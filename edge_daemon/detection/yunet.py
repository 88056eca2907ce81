"""YuNet (Wu et al. 2023) in OpenCV: faces at most angles, with landmarks; and its download.

The project does not include the model file.
"""

import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, Final

import cv2
import numpy as np

from edge_daemon._lib.files import require_regular, sha256_of
from edge_daemon.detection.base import MAX_FACES, TRACKED_MARGIN, Framing
from edge_daemon.errors import DetectorError
from edge_daemon.pipeline import in_thread
from edge_daemon.records import Box, Detection, Image

NMS_THRESHOLD: Final = 0.3
MAX_CANDIDATES: Final = 5000
"""Before the suppression: a face has several. OpenCV's default."""

BOX: Final = slice(0, 4)
LANDMARKS: Final = slice(4, 14)
SCORE: Final = 14
"""Columns of a detection."""


FETCH_COMMAND: Final = "edge-daemon models fetch yunet"


class YuNetDetector:
    """Faces and five landmarks by a small network.

    Args:
        model: the network as ONNX.
        min_score: minimum score of a face that is not tracked yet, 0 to 1.

    Raises:
        DetectorError: the file is not a network that OpenCV can read.
    """

    name = "yunet"
    # Measured on faces with surroundings: against Haar's boxes on photos and against known faces
    # composed into frames. On bare training crops the boxes are a tenth smaller.
    framing = Framing(x=0.06, y=-0.065, width=0.87, height=1.14)

    def __init__(self, model: Path, min_score: float) -> None:
        self.start_score = min_score
        try:
            require_regular(model)
            self._network = cv2.FaceDetectorYN.create(
                str(model),
                "",
                (0, 0),
                max(0.0, min_score - TRACKED_MARGIN),
                NMS_THRESHOLD,
                MAX_CANDIDATES,
            )
        except FileNotFoundError as error:
            raise DetectorError(
                f"detection.detector: yunet is not installed (no {model}); run '{FETCH_COMMAND}'"
            ) from error
        except OSError as error:
            raise DetectorError(f"{model}: cannot be read: {error.strerror}") from error
        except cv2.error as error:
            raise DetectorError(f"{model}: OpenCV cannot read it as a YuNet network") from error

    def detect(self, bgr: Image) -> list[Detection]:
        self._network.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, rows = self._network.detect(bgr)
        if rows is None:
            return []
        return [
            Detection(
                Box(*map(float, row[BOX])),
                float(row[SCORE]),
                np.asarray(row[LANDMARKS], np.float32).reshape(5, 2),
            )
            for row in rows[:MAX_FACES]
        ]


READ_TIMEOUT_S: Final = 20.0
"""Limit on the time without a byte from the server."""

DOWNLOAD_TIMEOUT_S: Final = 300.0
"""Limit on the whole download: a server can send single bytes for ever."""

CHUNK_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class DetectorModel:
    """A published model file."""

    file: str
    url: str
    sha256: str
    size: int
    """Bytes."""
    licence: str


YUNET: Final = DetectorModel(
    file="face_detection_yunet_2023mar.onnx",
    url=(
        "https://github.com/opencv/opencv_zoo/raw/main/models/"
        "face_detection_yunet/face_detection_yunet_2023mar.onnx"
    ),
    sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    size=232_589,
    licence="MIT",
)


Report = Callable[[int, float], None]
"""Receives the bytes that are there, and their part of the file, 0 to 1."""


def fetch(
    model: DetectorModel,
    folder: Path,
    url: str | None = None,
    report: Report = lambda _bytes, _part: None,
    timeout_s: float = DOWNLOAD_TIMEOUT_S,
) -> Path:
    """Download a model into `folder` unless it is there; resume a partial download.

    Proxies come from the environment (`https_proxy`, `no_proxy`).

    Raises:
        DetectorError: the download or a write fails or takes too long, or the checksum is wrong.
    """
    target = folder / model.file
    if target.is_file() and sha256_of(target) == model.sha256:
        return target
    part = folder / f"{model.file}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download = partial(_download, url or model.url, part, model.size, report)
        done, _ = wait([in_thread("download", download)], timeout_s)
        if not done:
            raise DetectorError(
                f"{url or model.url}: download incomplete after {timeout_s:g} s; fetch again to "
                "resume it"
            )
        done.pop().result()
    except (OSError, HTTPException, ValueError) as error:  # ValueError: not a URL
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise DetectorError(f"{url or model.url}: download failed: {_cause(error)}") from error
    _accept(model, part, target)
    return target


def _download(url: str, part: Path, size: int, report: Report) -> None:
    """Append the missing bytes to `part`."""
    begun = part.stat().st_size if part.exists() else 0
    if begun >= size:
        part.unlink()
        begun = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=READ_TIMEOUT_S) as response:  # noqa: S310
        resumed = begun > 0 and response.status == 206
        with part.open("ab" if resumed else "wb", buffering=0) as file:
            _copy(response, file, size - (begun if resumed else 0), size, report)


def _copy(response: HTTPResponse, file: BinaryIO, missing: int, size: int, report: Report) -> None:
    """Copy the response as it arrives, and no more than just beyond the file's size."""
    while missing >= 0 and (chunk := response.read1(CHUNK_BYTES)):
        file.write(chunk)
        missing -= len(chunk)
        report(size - missing, (size - missing) / size)


def _accept(model: DetectorModel, part: Path, target: Path) -> None:
    found = part.stat().st_size
    if found < model.size:
        raise DetectorError(
            f"{part}: {found} of {model.size} bytes arrived; fetch again to resume it"
        )
    if sha256_of(part) != model.sha256:
        part.unlink()
        raise DetectorError(
            f"{target.name}: download has a wrong sha256; fetch again, or check the proxy"
        )
    part.replace(target)


def _cause(error: Exception) -> str:
    """Without the number that Python writes before the reason of a failed connection."""
    reason = getattr(error, "reason", None)
    return " ".join(str(getattr(reason, "strerror", None) or reason or error).split())
