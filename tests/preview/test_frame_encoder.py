import dataclasses
from base64 import b64decode
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders import frame
from conftest import FakeClock
from drawing import Image, draw_scene
from preview.serving import Look, seen, taken_apart

from edge_daemon._lib.resources import bundled_models
from edge_daemon.capture.pause import Pause
from edge_daemon.capture.status import SourceStatus
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.monitoring.hardware import Board
from edge_daemon.monitoring.health import Health
from edge_daemon.preview.frame_encoder import LONGEST_SIDE, GlanceMaker, jpeg
from edge_daemon.records import FrameResult


@pytest.fixture
def pause() -> Pause:
    return Pause()


@pytest.fixture
def health(clock: FakeClock, tmp_path: Path) -> Health:
    bundle = read_bundle(bundled_models())
    return Health(clock, bundle, SourceStatus("camera", clock), Board(sys=tmp_path))


@pytest.fixture
def maker(health: Health, pause: Pause, clock: FakeClock) -> GlanceMaker:
    return GlanceMaker(health, pause, clock)


def made(maker: GlanceMaker, result: FrameResult | None) -> Look:
    return taken_apart(maker(result, 1))


def decoded(data: bytes) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def test_message_holds_the_frame_its_faces_and_its_picture(maker: GlanceMaker) -> None:
    result = seen(7)
    look = made(maker, result)
    told = look.glance["frame"]
    assert (told["frame"], told["width"], told["height"]) == (7, 320, 240)
    (face,) = told["faces"]
    assert (face["track_id"], face["emotion"]) == (5, "happy")
    assert (face["probabilities"]["happy"], face["raw"]["happy"]) == (0.7, 0.9)
    assert np.abs(decoded(look.jpeg).astype(int) - result.frame.bgr).mean() < 3


def test_crop_is_the_one_that_the_models_saw(maker: GlanceMaker) -> None:
    result = seen(0)
    crops = made(maker, result).glance["crops"]
    assert crops.keys() == {"5"}
    grey = np.frombuffer(b64decode(crops["5"]), np.uint8).reshape(48, 48)
    np.testing.assert_array_equal(grey, result.faces[0].face.crop)


def test_without_a_picture_there_is_no_frame(maker: GlanceMaker, pause: Pause) -> None:
    blank = dataclasses.replace(seen(0), frame=dataclasses.replace(frame(), blank=True))
    for nothing in (None, blank):
        look = made(maker, nothing)
        assert (look.glance["frame"], look.glance["crops"], look.jpeg) == (None, {}, b"")
    assert made(maker, seen(0)).jpeg
    pause.set(True)
    look = made(maker, seen(0))
    assert (look.glance["paused"], look.glance["frame"], look.jpeg) == (True, None, b"")


def test_state_of_the_source_is_told_at_once_and_figures_once_a_second(
    maker: GlanceMaker, health: Health, clock: FakeClock
) -> None:
    assert made(maker, None).glance["state"] == "starting"
    health.source.running()
    health.connected = lambda: True
    clock.seconds += 0.5
    look = made(maker, None)
    assert (look.glance["state"], look.glance["condition"]["broker"]) == ("running", "none")
    clock.seconds += 0.5
    assert made(maker, None).glance["condition"]["broker"] == "connected"


@pytest.mark.parametrize(
    ("connected", "told"),
    [
        (None, "none"),
        (True, "connected"),
        (False, "away"),
    ],
)
def test_broker_is_there_away_or_none(
    health: Health, pause: Pause, clock: FakeClock, *, connected: bool | None, told: str
) -> None:
    health.connected = lambda: connected
    maker = GlanceMaker(health, pause, clock)
    assert made(maker, None).glance["condition"]["broker"] == told


def test_time_that_stages_take_is_told(
    maker: GlanceMaker, health: Health, clock: FakeClock
) -> None:
    health.stages.record("detection", 0.0)
    clock.seconds += 1
    stages = made(maker, None).glance["condition"]["stages"]
    assert stages == {"detection": {"p50": 0.0, "p95": 0.0}}


@pytest.mark.parametrize(
    ("size", "shown"),
    [((320, 240), (320, 240)), ((2560, 1440), (1280, 720)), ((900, 1800), (640, 1280))],
)
def test_large_pictures_are_reduced(size: tuple[int, int], shown: tuple[int, int]) -> None:
    picture = decoded(jpeg(frame(bgr=draw_scene(size=size))))
    assert (picture.shape[1], picture.shape[0]) == shown
    assert max(shown) <= LONGEST_SIDE
