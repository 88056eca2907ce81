"""Acts out picamera2 0.3.38, as far as `PiCamera` uses it, and what goes wrong with it.

Written from the library's source: signatures, the order of errors, what its buffers look like, and
its traps. SIGNATURES holds the real ones, so that neither side can move unnoticed.
"""

# ruff: noqa: B006, B008, FBT002, PLR0917  # the signatures are the real library's

import inspect
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from edge_daemon.records import Image

SIGNATURES = {
    "Picamera2.__init__": (
        "(self, camera_num=0, verbose_console=None, tuning=None, allocator=None)"
    ),
    "Picamera2.global_camera_info": "()",
    "Picamera2.create_video_configuration": (
        "(self, main={}, lores=None, raw={}, transform=…, colour_space=None, buffer_count=6, "
        "controls={}, display='main', encode='main', queue=True, sensor={}, use_case='video')"
    ),
    "Picamera2.configure": "(self, camera_config=None)",
    "Picamera2.camera_configuration": "(self)",
    "Picamera2.start": "(self, config=None, show_preview=False)",
    "Picamera2.capture_request": "(self, wait=None, signal_function=None, flush=None)",
    "Picamera2.stop": "(self)",
    "Picamera2.close": "(self)",
    "CompletedRequest.make_array": "(self, name)",
    "CompletedRequest.release": "(self)",
}

PACKED = {"RGB888": "bgr", "BGR888": "rgb", "XRGB8888": "bgrx", "XBGR8888": "rgbx"}
"""Formats of one plane, with their bytes' order in memory."""

PLANAR = {"YUV420": "uv", "YVU420": "vu"}
SEMI_PLANAR = {"NV12": "uv", "NV21": "vu"}

NOISE = 201
"""What stands in the padding, where no reader may look."""


def signature(function: Callable[..., Any]) -> str:
    """Parameters and defaults, without annotations; defaults that are objects count as `…`."""
    parts = []
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        if default is inspect.Parameter.empty:
            parts.append(parameter.name)
        elif default is None or isinstance(default, int | str | dict):
            parts.append(f"{parameter.name}={default!r}")
        else:
            parts.append(f"{parameter.name}=…")
    return f"({', '.join(parts)})"


@dataclass
class World:
    """The camera and its fate; the fake writes down what becomes of it."""

    show: Callable[[int], Image]
    """The picture of each moment, counted from 0, BGR uint8."""
    cameras: int = 1
    formats: dict[str, str] = field(default_factory=dict)
    """Formats that the camera gives instead of those requested, by the stream's name."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Likewise for sizes."""
    padding: int = 0
    """Bytes behind each row."""
    has_rate: bool = True
    busy: bool = False
    silent: bool = False
    """Whether it accepts everything and gives no frame."""
    vanishes_after: int | None = None
    """Frames until every capture fails."""
    fails_in: str | None = None
    """The method that raises."""

    opened: "list[Picamera2]" = field(default_factory=list)
    moments: int = 0
    held: int = 0
    """Requests that are not released yet."""

    def library(self) -> ModuleType:
        """A module to stand in for picamera2."""
        module = ModuleType("picamera2")
        module.Picamera2 = type(
            "Picamera2",
            (Picamera2,),
            {"world": self, "global_camera_info": staticmethod(self.global_camera_info)},
        )
        return module

    def global_camera_info(self) -> list[dict[str, Any]]:
        return [{"Model": "fake", "Id": f"/fake{n}", "Num": n} for n in range(self.cameras)]

    def fail(self, where: str) -> None:
        if self.fails_in == where:
            raise RuntimeError(f"{where} failed")


class Picamera2:
    """See the module's docstring."""

    world: World

    def __init__(self, camera_num=0, verbose_console=None, tuning=None, allocator=None):
        self.is_open = False
        self.started = False
        self.gave_up = False
        self.configuration: dict[str, Any] = {}
        self.notifyme_r, self.notifyme_w = os.pipe2(os.O_NONBLOCK)
        if camera_num >= len(self.global_camera_info()):
            raise RuntimeError(f"No camera number {camera_num} found")
        if self.world.busy:
            cause = RuntimeError("failed to acquire camera: Device or resource busy")
            raise RuntimeError("Camera __init__ sequence did not complete.") from cause
        self.is_open = True
        self.world.opened.append(self)
        self.world.fail("__init__")

    def __del__(self):
        # The real one's end is a file object, which closes itself; the other end is a bare number.
        os.close(self.notifyme_r)

    @property
    def camera_controls(self):
        return {"FrameDurationLimits": (33333, 120000, None)} if self.world.has_rate else {}

    def create_video_configuration(
        self,
        main={},
        lores=None,
        raw={},
        transform=object(),
        colour_space=None,
        buffer_count=6,
        controls={},
        display="main",
        encode="main",
        queue=True,
        sensor={},
        use_case="video",
    ):
        main = {"format": "XBGR8888", "size": (1280, 720)} | main
        if lores is not None:
            lores = {"format": "YUV420", "size": main["size"]} | lores
        return {
            "main": main,
            "lores": lores,
            "raw": raw,
            "buffer_count": buffer_count,
            "controls": controls,
            "queue": queue,
            "transform": transform,
        }

    def configure(self, camera_config=None):
        self.world.fail("configure")
        for control in camera_config["controls"]:
            if control not in self.camera_controls:
                raise RuntimeError(f"Control {control} is not advertised by libcamera")
        self.requested = camera_config
        self.configuration = camera_config | {
            name: self._adjusted(name, camera_config[name])
            for name in ("main", "lores")
            if camera_config[name] is not None
        }

    def _adjusted(self, name: str, stream: dict[str, Any]) -> dict[str, Any]:
        if any(side % 2 or not isinstance(side, int) for side in stream["size"]):
            raise RuntimeError("width and height should be even")
        size = self.world.sizes.get(name, stream["size"])
        format_ = self.world.formats.get(name, stream["format"])
        stride = size[0] * len(PACKED.get(format_, "y")) + self.world.padding
        return {"format": format_, "size": size, "stride": stride}

    def camera_configuration(self):
        return self.configuration

    def start(self, config=None, show_preview=False):
        self.world.fail("start")
        self.started = True

    def capture_request(self, wait=None, signal_function=None, flush=None):
        assert self.started, "this would wait for ever: the camera does not run"
        if self.world.silent:
            assert type(wait) in {int, float}, "this would wait for ever: no time limit"
            time.sleep(wait)
            self.gave_up = True
            raise TimeoutError
        if self.world.moments == self.world.vanishes_after:
            raise RuntimeError("the camera has vanished")
        self.world.held += 1
        self.world.moments += 1
        return CompletedRequest(self, self.world.moments - 1)

    def stop(self):
        # The real one queues its stop behind a capture that was given up.
        assert not self.gave_up, "this would wait for ever: behind a capture that timed out"
        self.started = False

    def close(self):
        if not self.is_open:
            return
        self.world.fail("close")
        self.is_open = self.started = False
        os.close(self.notifyme_w)


class CompletedRequest:
    """See the module's docstring."""

    def __init__(self, camera: Picamera2, moment: int) -> None:
        self._camera = camera
        self._moment = moment
        self._released = False

    def make_array(self, name):
        self._camera.world.fail("make_array")
        assert not self._released, "the camera writes its next frame here"
        config = self._camera.configuration[name]
        picture = self._camera.world.show(self._moment)
        picture = cv2.resize(picture, config["size"], interpolation=cv2.INTER_AREA)
        buffer = encoded(picture, config["format"], config["stride"])
        return np.ascontiguousarray(array_of(buffer, config))

    def release(self):
        assert not self._released, "released twice"
        self._released = True
        self._camera.world.held -= 1


def array_of(buffer: Image, config: dict[str, Any]) -> Image:
    """The real library's view of a buffer: rows cut to the width, except for planar formats."""
    format_, (width, height), stride = config["format"], config["size"], config["stride"]
    if format_ in PACKED:
        channels = len(PACKED[format_])
        rows = buffer.reshape(height, stride)[:, : width * channels]
        return rows.reshape(height, width, channels)
    rows = buffer.reshape(height * 3 // 2, stride)
    return rows[:, :width] if format_ in SEMI_PLANAR else rows


def encoded(bgr: Image, format_: str, stride: int) -> Image:
    """The picture as a camera's buffer, uint8 [bytes], by the formats' definitions."""
    if format_ in PACKED:
        channels = dict(zip("bgr", np.moveaxis(bgr, 2, 0), strict=True))
        channels["x"] = np.full_like(channels["b"], NOISE)
        packed = np.stack([channels[letter] for letter in PACKED[format_]], axis=2)
        return padded(packed.reshape(len(bgr), -1), stride)
    planes = yuv_planes(bgr)
    luma = padded(planes["y"], stride)
    if format_ in PLANAR:
        chroma = [padded(planes[letter], stride // 2) for letter in PLANAR[format_]]
        return np.concatenate([luma, *chroma])
    pairs = np.stack([planes[letter] for letter in SEMI_PLANAR[format_]], axis=2)
    return np.concatenate([luma, padded(pairs.reshape(len(pairs), -1), stride)])


def padded(rows: Image, stride: int) -> Image:
    """The rows in line, each filled up with noise: uint8 [rows * stride]."""
    filled = np.full((len(rows), stride), NOISE, np.uint8)
    filled[:, : rows.shape[1]] = rows
    return filled.ravel()


def yuv_planes(bgr: Image) -> dict[str, Image]:
    """ITU-R BT.601 in video range: y [H, W]; u and v [H/2, W/2], the mean of four pixels each."""
    blue, green, red = np.moveaxis(bgr.astype(np.float64) / 255, 2, 0)
    y = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    u = 128 - 37.797 * red - 74.203 * green + 112 * blue
    v = 128 + 112 * red - 93.786 * green - 18.214 * blue
    quarter = (len(bgr) // 2, 2, bgr.shape[1] // 2, 2)
    planes = {"y": y, "u": u.reshape(quarter).mean((1, 3)), "v": v.reshape(quarter).mean((1, 3))}
    return {name: np.rint(plane).astype(np.uint8) for name, plane in planes.items()}
