import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from drawing import draw_scene
from running import camera

from edge_daemon import cli
from edge_daemon._lib.clock import SystemClock
from edge_daemon.capture import ImageFile, ImageFolder, Reader, SourceKind, create_source
from edge_daemon.capture.base import SupportsSkip
from edge_daemon.capture.devices import DeviceReader, VideoDevice
from edge_daemon.capture.http_camera import HttpCamera
from edge_daemon.capture.loop import CaptureLoop
from edge_daemon.capture.picamera import PiCamera
from edge_daemon.capture.status import Pause
from edge_daemon.capture.streams import NetworkStream
from edge_daemon.capture.videos import VideoFile
from edge_daemon.capture.wrappers import Orientation, Oriented
from edge_daemon.config.settings import CaptureSettings
from edge_daemon.errors import SourceError, SourceLost
from edge_daemon.records import Frame

SCENE = draw_scene((60, 60, 120))


def read_on(reader: Reader) -> None:
    while reader.read() is not None:
        pass


def test_network_camera_that_leaves_is_lost_and_opens_again() -> None:
    with camera(SCENE) as server:
        source = create_source(server.url)
        assert isinstance(source, HttpCamera)
        assert source.is_live
        reader = source.open()
        for _ in range(3):
            picture = reader.read()
            assert picture.bgr.dtype == np.uint8
            assert np.abs(picture.bgr.astype(int) - SCENE).mean() < 3
            assert picture.stream_time_s is None
        server.gone.set()
        with pytest.raises(SourceLost, match="the stream ended"):
            read_on(reader)
        reader.close()
        server.gone.clear()
        reader = source.open()
        assert reader.read().bgr.shape == SCENE.shape
        reader.close()


@pytest.mark.parametrize("fps", [10.0, 2.0])
def test_stream_that_is_faster_than_wanted_is_shown_as_it_is_now(fps: float) -> None:
    frames: list[Frame] = []

    with camera(SCENE) as server:  # 50 pictures a second

        def put(frame: Frame) -> None:
            frames.append(frame)
            if len(frames) == 5:
                server.show(np.zeros_like(SCENE))
            if frame.bgr.mean() < 5 or len(frames) == 20:
                loop.abandon()

        loop = CaptureLoop(HttpCamera(server.url), SystemClock(), fps, Pause(), max_age_s=2.0)
        begun = time.monotonic()
        loop.run(put, contextlib.nullcontext())
    assert time.monotonic() - begun > 0.9 * (len(frames) - 1) / fps
    assert len(frames) < 9


def test_missing_device_is_lost_with_a_remedy(tmp_path: Path) -> None:
    device = VideoDevice(tmp_path / "video9", (640, 480), 15)
    with pytest.raises(SourceLost, match=r"video9.*plugged in"):
        device.open()


def test_device_without_permission_is_lost_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "video9").touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SourceLost, match="group 'video'"):
        VideoDevice(tmp_path / "video9", (640, 480), 15).open()


def test_device_that_is_no_camera_is_lost(tmp_path: Path) -> None:
    (tmp_path / "video9").touch()
    with pytest.raises(SourceLost, match="video9"):
        VideoDevice(tmp_path / "video9", (640, 480), 15).open()


def test_device_reader_skips_a_frame_of_opencv(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), 10 * number, np.uint8))
    reader = DeviceReader("device", cv2.VideoCapture(str(tmp_path / "%d.png"), cv2.CAP_IMAGES))
    assert isinstance(reader, SupportsSkip)
    reader.skip()
    assert reader.read().bgr.mean() == 10
    reader.skip()
    with pytest.raises(SourceLost):
        reader.skip()
    reader.close()


class OneBufferCamera:
    """A V4L2 device with one buffer, which OpenCV queues again after `retrieve`, or in `grab`."""

    INTERVAL_S = 0.01

    def __init__(self) -> None:
        self.ages: list[float] = []
        self._queued_at: float | None = time.monotonic()
        self._captured_at = 0.0

    def grab(self) -> bool:
        queued_at = time.monotonic() if self._queued_at is None else self._queued_at
        self._captured_at, self._queued_at = queued_at + self.INTERVAL_S, None
        time.sleep(max(0.0, self._captured_at - time.monotonic()))
        return True

    def read(self) -> tuple[bool, np.ndarray]:
        self.grab()
        self._queued_at = time.monotonic()
        self.ages.append(self._queued_at - self._captured_at)
        return True, SCENE

    def isOpened(self) -> bool:  # noqa: N802  # OpenCV's name
        return True

    def release(self) -> None:
        """There is nothing to release."""


@pytest.mark.parametrize("orientation", [Orientation(), Orientation(rotation=90)])
def test_device_frames_are_new_at_a_low_rate(orientation: Orientation) -> None:
    device = OneBufferCamera()
    reader = DeviceReader("device", cast(cv2.VideoCapture, device))
    source = SimpleNamespace(
        name="device", kind=SourceKind.CAMERA, is_live=True, open=lambda: reader
    )

    def put(frame: Frame) -> None:
        if frame.index == 3:
            loop.abandon()

    loop = CaptureLoop(Oriented(source, orientation), SystemClock(), 5.0, Pause(), max_age_s=2.0)
    begun = time.monotonic()
    loop.run(put, contextlib.nullcontext())
    assert time.monotonic() - begun > 3 * 0.9 / 5
    assert statistics.median(device.ages) < 0.1  # 0.17 s if the loop waits instead


def test_opencv_waits_less_for_a_device_than_the_supervisor() -> None:
    with patch.dict(os.environ):
        os.environ.pop("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", None)
        cli._configure_libraries()
        limit_s = float(os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"])
    assert limit_s < CaptureSettings().read_timeout


@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        ("0", VideoDevice, "/dev/video0"),
        ("12", VideoDevice, "/dev/video12"),
        ("/dev/video3", VideoDevice, "/dev/video3"),
        ("/dev/v4l/by-id/usb-cam", VideoDevice, "/dev/v4l/by-id/usb-cam"),
        ("rtsp://me:pw@camera/1", NetworkStream, "rtsp://***@camera/1"),
        ("rtsps://camera/1", NetworkStream, "rtsps://camera/1"),
        ("http://camera/1", HttpCamera, "http://camera/1"),
        ("HTTPS://camera/1", HttpCamera, "HTTPS://camera/1"),
        ("picamera", PiCamera, "picamera"),
        ("picamera:1", PiCamera, "picamera:1"),
    ],
)
def test_words_name_live_sources(spec: str, kind: type, name: str) -> None:
    source = create_source(spec)
    assert type(source) is kind
    assert source.is_live
    assert source.name.startswith(name)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [("/dev/null", VideoDevice), ("/dev/cameras/front", VideoDevice), ("/dev/fd", ImageFolder)],
)
def test_path_in_dev_is_a_device_unless_it_is_a_file(spec: str, kind: type) -> None:
    assert type(create_source(spec)) is kind


def test_file_in_shared_memory_is_no_device() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert isinstance(create_source(folder), ImageFolder)
        (Path(folder) / "a.mp4").touch()
        assert isinstance(create_source(f"{folder}/a.mp4"), VideoFile)
        with pytest.raises(SourceError, match="no such file"):
            create_source(f"{folder}/absent.mp4")


def test_file_named_by_a_number_is_meant_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0.png").touch()
    monkeypatch.chdir(tmp_path)
    assert isinstance(create_source("0.png"), ImageFile)


def test_pi_cameras_number_must_be_one() -> None:
    with pytest.raises(SourceError, match="picamera:left"):
        create_source("picamera:left")
