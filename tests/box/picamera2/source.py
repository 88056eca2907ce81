"""Inside the box: check the PiCamera source on the real picamera2, and print its measurements.

The virtual camera shows /opt/frames, in 1280x720 or 640x360, as NV12 whatever it is asked for.
"""

import contextlib
import gc
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from picamera2 import Picamera2

from edge_daemon.capture import CapturedFrame, Reader, create_source
from edge_daemon.capture.picamera import FRAME_TIMEOUT_S
from edge_daemon.detection.base import Detector
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.yunet import YuNetDetector
from edge_daemon.errors import SourceLost
from edge_daemon.records import Image

FRAMES = 20
RATE = 10.0
"""Frames a second that are read; the camera itself gives hundreds."""

MAX_DIFFERENCE = 2.0
"""Maximum mean difference in levels of a frame from its image; the camera halves the chroma."""


def main() -> None:
    detector = chosen_detector()
    frames = sorted(Path("/opt/frames").iterdir(), key=lambda path: int(path.stem))
    images = [image for path in frames if (image := cv2.imread(str(path))) is not None]
    watch(detector, images, (1280, 720), max_reduced_side=640)
    watch(detector, images, (640, 360), max_reduced_side=None)
    watch(detector, images, (1280, 720), max_reduced_side=300)  # which it cannot give
    open_while_busy()
    read_while_silent()
    print("all is well")


def chosen_detector() -> Detector:
    model = Path("/opt/yunet.onnx")
    return YuNetDetector(model, 0.7) if model.exists() else HaarDetector(min_size=48)


def watch(
    detector: Detector, images: list[Image], size: tuple[int, int], max_reduced_side: int | None
) -> None:
    """Read some frames and compare them with the pictures that the camera shows."""
    reader = create_source("picamera", size, RATE, max_reduced_side).open()
    pictures = list(paced(reader))
    reader.close()
    faces = [len(detector.detect(looked_at(picture))) for picture in pictures]
    difference = max(distance(picture.bgr, images) for picture in pictures)
    print(
        f"asked {size[0]}x{size[1]}, reduced to {max_reduced_side}: {len(pictures)} frames "
        f"{shapes(picture.bgr for picture in pictures)}, "
        f"reduced {shapes(picture.reduced for picture in pictures)}; "
        f"{detector.name} finds {sum(faces)} faces; "
        f"at most {difference:.1f} levels from a picture shown"
    )
    assert all(picture.bgr.shape == (size[1], size[0], 3) for picture in pictures)
    assert all((picture.reduced is not None) == (max_reduced_side == 640) for picture in pictures)
    assert difference < MAX_DIFFERENCE, "the colours or the rows differ from the image"
    assert sum(map(bool, faces)) >= FRAMES * 0.7


def looked_at(picture: CapturedFrame) -> Image:
    """What the daemon would look for faces in."""
    if picture.reduced is not None:
        return picture.reduced
    return np.asarray(cv2.resize(picture.bgr, (640, 360), interpolation=cv2.INTER_AREA), np.uint8)


def paced(reader: Reader) -> Iterator[CapturedFrame]:
    for _ in range(FRAMES):
        picture = reader.read()
        assert isinstance(picture, CapturedFrame)
        yield picture
        time.sleep(1 / RATE)


def shapes(images: Iterable[Image | None]) -> str:
    """The sizes that occur among images."""
    found = {"none" if image is None else f"{image.shape[1]}x{image.shape[0]}" for image in images}
    return " ".join(sorted(found))


def distance(bgr: Image, images: list[Image]) -> float:
    """Mean difference in levels from the picture that is nearest."""
    return min(float(np.abs(small(bgr) - darkened(small(image))).mean()) for image in images)


def small(image: Image) -> NDArray[np.float64]:
    return cv2.resize(image, (160, 90), interpolation=cv2.INTER_AREA).astype(float)


def darkened(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The virtual camera declares video range, 16 to 235, but delivers 0 to 255."""
    return np.clip((levels - 16) * 255 / 219, 0, 255)


def open_while_busy() -> None:
    """Opening a camera in use raises `SourceLost`, repeatedly, and leaks no pipes."""
    source = create_source("picamera", (1280, 720), RATE)
    reader = source.open()
    before = open_pipes()
    for _ in range(20):
        try:
            source.open()
        except SourceLost as loss:
            message = str(loss)
    lost = open_pipes() - before
    reader.close()
    print(f"busy: {message}; pipes left open after 20 attempts: {lost}")
    assert lost == 0


def open_pipes() -> int:
    """Not all files: those of the frames come and go while the camera runs."""
    gc.collect()
    pipes = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            pipes += str(file.readlink()).startswith("pipe:")
    return pipes


def read_while_silent() -> None:
    """A camera without frames raises `SourceLost`, closes, and opens again."""
    source = create_source("picamera", (1280, 720), RATE)
    reader = source.open()
    reader.read()
    camera = reader._camera
    withheld = []

    process_requests = camera.process_requests

    def without_frames(display: object) -> None:
        with camera._requestslock:
            withheld.extend(camera._requests)
            camera._requests = []
        process_requests(display)

    camera.process_requests = without_frames
    started = time.monotonic()
    try:
        reader.read()
    except SourceLost as loss:
        message = str(loss)
    waited = time.monotonic() - started
    closing = threading.Thread(target=reader.close, daemon=True)
    closing.start()
    closing.join(5)
    print(f"silent: {message}; after {waited:.1f} s; closed: {not closing.is_alive()}")
    assert abs(waited - FRAME_TIMEOUT_S) < 0.5
    assert not closing.is_alive()
    again = source.open()
    again.read()
    again.close()
    assert len(Picamera2.global_camera_info()) == 1


main()
