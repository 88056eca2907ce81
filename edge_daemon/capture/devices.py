"""Live frames from a V4L2 camera, such as a USB webcam, through OpenCV."""

import os
from pathlib import Path

import cv2
import numpy as np

from edge_daemon.capture.base import CapturedFrame, SourceKind
from edge_daemon.errors import SourceLost


class VideoDevice:
    """A camera at `/dev/videoN`.

    Args:
        device: its path.
        size: requested width and height, in pixels; the camera may choose others.
        fps: requested frames per second.
    """

    kind = SourceKind.CAMERA
    is_live = True

    def __init__(self, device: Path, size: tuple[int, int], fps: float) -> None:
        self.name = str(device)
        self._size = size
        self._fps = fps

    def open(self) -> "DeviceReader":
        """Open it and request its format.

        Raises:
            SourceLost: it is not plugged in, not permitted, or in use.
        """
        if not os.access(self.name, os.R_OK | os.W_OK):
            is_there = Path(self.name).exists()
            remedy = "join the group 'video'" if is_there else "check that it is plugged in"
            raise SourceLost(f"{self.name}: cannot be opened; {remedy}")
        capture = cv2.VideoCapture(self.name, cv2.CAP_V4L2)
        # MJPEG first: USB 2 has no room for larger raw frames at full rate.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        capture.set(cv2.CAP_PROP_FPS, self._fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return DeviceReader(self.name, capture)


class DeviceReader:
    """Reads an open device; a read without a frame means that it is gone.

    The driver fills the one buffer as soon as OpenCV has returned it to the queue, after the last
    read. So frames must be skipped until the next is due: a wait would let that one become old.

    Raises:
        SourceLost: OpenCV could not open it.
    """

    def __init__(self, name: str, capture: cv2.VideoCapture) -> None:
        if not capture.isOpened():
            capture.release()
            raise SourceLost(f"{name}: cannot be opened; check that no other program uses it")
        self._name = name
        self._capture = capture

    def read(self) -> CapturedFrame:
        """Wait for the next frame.

        Raises:
            SourceLost: there are no more.
        """
        ok, image = self._capture.read()
        if not ok:
            raise SourceLost(f"{self._name}: gives no more frames")
        return CapturedFrame(np.asarray(image, np.uint8))

    def skip(self) -> None:
        """Receive the next frame and discard it, without decoding it.

        Raises:
            SourceLost: there are no more.
        """
        if not self._capture.grab():
            raise SourceLost(f"{self._name}: gives no more frames")

    def close(self) -> None:
        self._capture.release()
