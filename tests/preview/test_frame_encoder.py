import dataclasses
from base64 import b64decode
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders import event, frame
from conftest import FakeClock
from drawing import Image, draw_scene
from preview.serving import Shown, decoded, seen

from edge_daemon._lib.files import bundled_models
from edge_daemon.capture.status import Pause, SourceStatus
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.statistics import StageTimings
from edge_daemon.preview.history import History
from edge_daemon.preview.stream import MAX_SIDE_PX, FrameEncoder, jpeg
from edge_daemon.records import FrameResult
from edge_daemon.schema import EventQueueStatus


class FakePublisher:
    """A publisher without an event queue."""

    connected = True
    reconnects = 0
    dropped = 0

    def queued_events(self) -> EventQueueStatus:
        return EventQueueStatus(depth=0, oldest_age_s=0.0, dropped=0, durable=True)


@pytest.fixture
def pause() -> Pause:
    return Pause()


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def health(clock: FakeClock, publisher: FakePublisher, tmp_path: Path) -> Health:
    source = SourceStatus("camera", clock)
    bundle, hardware = read_bundle(bundled_models()), Hardware(sys=tmp_path)
    return Health(clock, bundle, source, StageTimings(clock), publisher, hardware=hardware)


@pytest.fixture
def history(clock: FakeClock) -> History:
    return History(clock)


@pytest.fixture
def encoder(health: Health, history: History, pause: Pause, clock: FakeClock) -> FrameEncoder:
    return FrameEncoder(health, history, pause, clock)


def encoded(encoder: FrameEncoder, result: FrameResult | None) -> Shown:
    return decoded(encoder(result, 1))


def image_of(data: bytes) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def test_message_contains_frame_faces_and_picture(encoder: FrameEncoder) -> None:
    result = seen(7)
    decoded_message = encoded(encoder, result)
    message = decoded_message.header["frame"]
    assert (message["frame"], message["width"], message["height"]) == (7, 320, 240)
    assert message["file"] is None
    (face,) = message["faces"]
    assert (face["track_id"], face["emotion"]) == (5, "happy")
    assert (face["probabilities"]["happy"], face["raw"]["happy"]) == (0.7, 0.9)
    assert np.abs(image_of(decoded_message.jpeg).astype(int) - result.frame.bgr).mean() < 3


def test_message_of_a_folder_names_the_file(encoder: FrameEncoder) -> None:
    result = seen(0)
    named = dataclasses.replace(result.frame, file="anna.jpg")
    message = encoded(encoder, dataclasses.replace(result, frame=named)).header["frame"]
    assert message["file"] == "anna.jpg"


def test_crop_is_the_input_of_the_models(encoder: FrameEncoder) -> None:
    result = seen(0)
    crops = encoded(encoder, result).header["crops"]
    assert crops.keys() == {"5"}
    grey = np.frombuffer(b64decode(crops["5"]), np.uint8).reshape(48, 48)
    np.testing.assert_array_equal(grey, result.faces[0].face.crop)


def test_message_without_picture_has_no_frame(encoder: FrameEncoder, pause: Pause) -> None:
    blank = dataclasses.replace(seen(0), frame=dataclasses.replace(frame(), is_blank=True))
    for nothing in (None, blank):
        decoded_message = encoded(encoder, nothing)
        assert (
            decoded_message.header["frame"],
            decoded_message.header["crops"],
            decoded_message.jpeg,
        ) == (None, {}, b"")
    assert encoded(encoder, seen(0)).jpeg
    pause.set(True)
    decoded_message = encoded(encoder, seen(0))
    assert (
        decoded_message.header["paused"],
        decoded_message.header["frame"],
        decoded_message.jpeg,
    ) == (True, None, b"")


def test_state_is_current_and_figures_are_cached_for_a_second(
    encoder: FrameEncoder, health: Health, publisher: FakePublisher, clock: FakeClock
) -> None:
    assert encoded(encoder, None).header["state"] == "starting"
    health.source.running()
    publisher.connected = False
    clock.seconds += 0.5
    header = encoded(encoder, None).header
    assert (header["state"], header["condition"]["broker"]) == ("running", "connected")
    clock.seconds += 0.5
    assert encoded(encoder, None).header["condition"]["broker"] == "disconnected"


def test_broker_is_none_without_delivery(clock: FakeClock, pause: Pause, history: History) -> None:
    source = SourceStatus("camera", clock)
    health = Health(clock, read_bundle(bundled_models()), source, StageTimings(clock))
    header = encoded(FrameEncoder(health, history, pause, clock), None).header
    assert header["condition"]["broker"] == "none"


def test_figures_contain_stage_timings_and_totals(
    encoder: FrameEncoder, health: Health, history: History, clock: FakeClock
) -> None:
    health.timings.record("detection", 0.02)
    history.record(dataclasses.replace(seen(0), events=(event(),)))
    clock.seconds += 1
    header = encoded(encoder, None).header
    assert header["condition"]["stages"] == {"detection": {"p50": 20.0, "p95": 20.0}}
    assert header["condition"]["totals"]["visits"] == 1
    assert header["events"] == 1


@pytest.mark.parametrize(
    ("size", "encoded_size"),
    [((320, 240), (320, 240)), ((2560, 1440), (1280, 720)), ((900, 1800), (640, 1280))],
)
def test_large_pictures_are_reduced(size: tuple[int, int], encoded_size: tuple[int, int]) -> None:
    picture = image_of(jpeg(frame(bgr=draw_scene(size=size))))
    assert (picture.shape[1], picture.shape[0]) == encoded_size
    assert max(encoded_size) <= MAX_SIDE_PX
