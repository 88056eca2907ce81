"""PiCamera against a fake picamera2; `tests/box/picamera2.sh` runs it against the real one."""

import gc
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from capture.fake_picamera2 import (
    PACKED,
    SIGNATURES,
    CompletedRequest,
    World,
    array_of,
    encoded,
    signature,
)

from edge_daemon._lib.clock import SystemClock
from edge_daemon.capture import create_source, picamera
from edge_daemon.capture import loop as capture_loop
from edge_daemon.capture.loop import CaptureLoop
from edge_daemon.capture.picamera import (
    BGR_CONVERSIONS,
    FRAME_TIMEOUT_S,
    CameraStream,
    PiCamera,
    reduced_size,
)
from edge_daemon.capture.status import Pause
from edge_daemon.capture.wrappers import Orientation
from edge_daemon.config.settings import CaptureSettings
from edge_daemon.errors import SourceError, SourceLost
from edge_daemon.records import Frame, Image

SIZE = (64, 48)
COLOURS = {"blue": (200, 40, 30), "green": (20, 180, 60), "red": (30, 50, 220)}
"""BGR; no two channels alike, so that no swap goes unseen."""


def picture(moment: int) -> Image:
    """Three coloured quarters, and a grey one that encodes the moment: BGR uint8 [48, 64, 3]."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[:24, 32:], image[24:, :32] = COLOURS.values()
    image[24:, 32:] = 40 + 10 * moment
    return image


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A fake picamera2 in the real one's place."""
    world = World(show=picture)
    monkeypatch.setitem(sys.modules, "picamera2", world.library())
    return world


@pytest.fixture(autouse=True)
def _short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picamera, "FRAME_TIMEOUT_S", 0.2)


def camera(max_reduced_side: int | None = None, number: int = 0) -> PiCamera:
    return PiCamera(number, SIZE, 20.0, max_reduced_side)


def open_files() -> set[Path]:
    gc.collect()
    return set(Path("/proc/self/fd").iterdir())


# The configuration of the camera


def test_name() -> None:
    assert camera().name == "picamera"
    assert camera(number=1).name == "picamera:1"
    assert camera().is_live


def test_camera_config_requests_unqueued_bgr_frames(world: World) -> None:
    camera().open()
    config = world.opened[0].requested
    assert config["main"]["size"] == SIZE
    assert config["main"]["format"] == "RGB888"
    assert config["controls"] == {"FrameDurationLimits": (50_000, 50_000)}
    assert config["queue"] is False
    assert config["raw"] is None
    assert 2 <= config["buffer_count"] <= 4


def test_low_rate_keeps_the_frame_duration_short(world: World) -> None:
    PiCamera(0, SIZE, 0.1, None).open()
    assert world.opened[0].requested["controls"] == {"FrameDurationLimits": (100_000, 100_000)}


def test_camera_without_rate_has_no_frame_duration_limits(world: World) -> None:
    world.has_rate = False
    assert camera().open().read().bgr.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((1280, 720), 321, (320, 180)),
        ((720, 1280), 640, (360, 640)),
        ((720, 1280), 720, (404, 720)),
        ((480, 480), 323, (322, 322)),
    ],
)
def test_reduced_stream_keeps_the_shape_with_even_sides(
    world: World, size: tuple[int, int], max_side: int, expected: tuple[int, int]
) -> None:
    PiCamera(0, size, 20.0, max_side).open()
    lores = world.opened[0].requested["lores"]
    assert lores == {"size": expected, "format": "YUV420"}


@pytest.mark.parametrize(
    "size", [(1280, 720), (720, 1280), (1920, 1080), (1080, 1920), (600, 1900), (480, 480)]
)
def test_reduced_stream_of_any_side_is_of_use(size: tuple[int, int]) -> None:
    full = CameraStream("main", *size, "RGB888")
    for max_side in range(64, max(size)):
        reduced = reduced_size(size, max_side)
        assert reduced is not None
        assert max_side - 1 <= max(reduced) <= max_side
        assert CameraStream("lores", *reduced, "YUV420").is_reduced(full)


@pytest.mark.parametrize("max_side", [None, 64, 100])
def test_no_reduced_stream_unless_it_is_smaller(world: World, max_side: int | None) -> None:
    assert camera(max_side).open().read().reduced is None
    assert world.opened[0].requested["lores"] is None


# What it gives


@pytest.mark.parametrize("padding", [0, 32])
@pytest.mark.parametrize("format_", BGR_CONVERSIONS)
def test_every_format_becomes_bgr(world: World, format_: str, padding: int) -> None:
    world.formats = {"main": format_}
    world.padding = padding
    bgr = camera().open().read().bgr
    assert bgr.dtype == np.uint8
    assert bgr.flags.c_contiguous
    exact = format_.endswith(("888", "8888"))
    np.testing.assert_allclose(bgr, picture(0).astype(int), atol=0 if exact else 3)


@pytest.mark.parametrize("format_", ["YUV420", "NV12", "RGB888"])
def test_reduced_picture_shows_the_same_moment(world: World, format_: str) -> None:
    world.formats = {"lores": format_}
    world.padding = 32
    reader = camera(32).open()
    for moment in range(3):
        seen = reader.read()
        assert seen.reduced is not None
        assert seen.reduced.shape == (24, 32, 3)
        assert seen.bgr[-1, -1, 0] == 40 + 10 * moment
        np.testing.assert_allclose(seen.reduced, picture(moment)[::2, ::2].astype(int), atol=3)


def test_camera_may_adjust_the_size(world: World) -> None:
    world.sizes = {"main": (32, 24)}
    bgr = camera().open().read().bgr
    np.testing.assert_array_equal(bgr, picture(0)[::2, ::2])


@pytest.mark.parametrize("size", [SIZE, (32, 48)])
def test_reduced_picture_of_no_use_is_dropped(world: World, size: tuple[int, int]) -> None:
    world.sizes = {"lores": size}
    assert camera(32).open().read().reduced is None


# What goes wrong


def test_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(SourceError, match=r"apt install python3-picamera2.*system-site") as caught:
        camera().open()
    assert not isinstance(caught.value, SourceLost)


def test_library_built_for_another_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str) -> None:
        raise ValueError("numpy.dtype size changed")

    monkeypatch.setattr(picamera.importlib, "import_module", refuse)
    with pytest.raises(SourceError, match="size changed"):
        camera().open()


def test_absent_camera_is_lost(world: World) -> None:
    with pytest.raises(SourceLost, match="picamera:1: no such camera, there are 1"):
        camera(number=1).open()
    assert not world.opened


def test_busy_camera_is_lost_with_its_cause(world: World) -> None:
    world.busy = True
    with pytest.raises(SourceLost, match=r"picamera: cannot be opened .*resource busy"):
        camera().open()


def test_attempts_leave_no_file_open(world: World) -> None:
    world.busy = True
    before = open_files()
    for number in (0, 0, 0, 1, 1, 1):
        with pytest.raises(SourceLost):
            camera(number=number).open()
    assert open_files() <= before  # a thread of an earlier test can close one


@pytest.mark.parametrize("method", ["__init__", "configure", "start"])
def test_camera_is_closed_when_opening_fails(world: World, method: str) -> None:
    world.fails_in = method
    with pytest.raises(SourceLost, match=f"{method} failed"):
        camera().open()
    assert [made.is_open for made in world.opened] == [False]


@pytest.mark.parametrize("stream", ["main", "lores"])
def test_unknown_format_is_named_and_the_camera_closed(world: World, stream: str) -> None:
    world.formats = {stream: "MJPEG"}
    with pytest.raises(SourceError, match=r"picamera: unsupported format MJPEG.*RGB888") as caught:
        camera(32).open()
    assert not isinstance(caught.value, SourceLost)
    assert [made.is_open for made in world.opened] == [False]


def test_silent_camera_is_lost_in_time_and_closes(world: World) -> None:
    reader = camera().open()
    world.silent = True
    started = time.monotonic()
    with pytest.raises(SourceLost, match="no frame for"):
        reader.read()
    assert 0.2 <= time.monotonic() - started < 4
    reader.close()
    assert not world.opened[0].is_open


def test_time_limit_is_below_the_supervisor_s() -> None:
    patience = CaptureSettings().read_timeout
    assert patience >= 2 * FRAME_TIMEOUT_S


def test_vanished_camera_is_lost(world: World) -> None:
    world.vanishes_after = 1
    reader = camera().open()
    reader.read()
    with pytest.raises(SourceLost, match="has vanished"):
        reader.read()


def test_request_is_released_after_each_read(world: World) -> None:
    reader = camera(32).open()
    for _ in range(3):
        reader.read()
        assert world.held == 0


def test_request_is_released_when_its_pixels_cannot_be_had(world: World) -> None:
    reader = camera().open()
    world.fails_in = "make_array"
    with pytest.raises(SourceLost, match="make_array failed"):
        reader.read()
    assert world.moments == 1
    assert world.held == 0


def test_closes_twice(world: World) -> None:
    reader = camera().open()
    reader.close()
    reader.close()
    assert not world.opened[0].is_open


def test_failing_close_goes_to_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    reader = camera().open()
    world.fails_in = "close"
    with caplog.at_level(logging.WARNING):
        reader.close()
    assert [record.message for record in caplog.records] == ["camera close failed"]


def test_loop_opens_a_vanished_camera_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def short_delays() -> Iterator[float]:
        while True:
            world.vanishes_after = None
            yield 0.0

    monkeypatch.setattr(capture_loop, "backoff_delays", short_delays)
    world.vanishes_after = 2
    loop = CaptureLoop(camera(), SystemClock(), max_fps=1000, pause=Pause(), max_age_s=2.0)
    frames: list[Frame] = []

    def put(frame: Frame) -> None:
        frames.append(frame)
        if len(frames) == 4:
            loop.abandon()

    loop.run(put, nullcontext())
    assert [int(frame.bgr[-1, -1, 0]) for frame in frames] == [40, 50, 60, 70]
    assert [made.is_open for made in world.opened] == [False, False]


# Whether the fake is like the real one


def test_fake_has_the_recorded_signatures(world: World) -> None:
    library = world.library()
    library.CompletedRequest = CompletedRequest
    assert signatures(library) == SIGNATURES


def test_real_library_has_the_recorded_signatures() -> None:
    real = pytest.importorskip("picamera2", reason="is on a Raspberry Pi", exc_type=ImportError)
    assert signatures(real) == SIGNATURES


def test_real_library_sees_buffers_as_the_fake_does() -> None:
    pytest.importorskip("picamera2", reason="is on a Raspberry Pi", exc_type=ImportError)
    from picamera2.request import Helpers

    for format_ in BGR_CONVERSIONS:
        stride = SIZE[0] * len(PACKED.get(format_, "y")) + 32
        config = {"format": format_, "size": SIZE, "stride": stride}
        buffer = encoded(picture(0), format_, stride)
        real = Helpers(None).make_array(buffer, config)
        np.testing.assert_array_equal(real, array_of(buffer, config), err_msg=format_)
        assert not np.shares_memory(real, buffer), format_


def signatures(library: ModuleType) -> dict[str, str]:
    """Those of SIGNATURES, as they are in a library."""
    return {name: signature(attrgetter(name)(library)) for name in SIGNATURES}


def test_camera_flips_in_the_sensor_and_turns_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    libcamera = ModuleType("libcamera")
    libcamera.Transform = lambda **flips: flips  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "libcamera", libcamera)
    reader = create_source(
        "picamera", (32, 16), 15, orientation=Orientation(270, hflip=True)
    ).open()
    picture = reader.read()
    reader.close()
    configuration = world.opened[0].camera_configuration()
    assert configuration["transform"] == {"hflip": False, "vflip": True}
    assert picture is not None
    assert picture.bgr.shape == (32, 16, 3)


def test_upright_camera_is_configured_without_a_transform(world: World) -> None:
    camera().open().close()
    assert not isinstance(world.opened[0].camera_configuration()["transform"], dict)
