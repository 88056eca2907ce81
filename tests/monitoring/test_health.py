import dataclasses
import json
import threading
from pathlib import Path

import pytest
from builders import frame, probabilities, result
from conftest import FakeClock
from running import PATIENCE

from edge_daemon import __version__
from edge_daemon.capture.status import SourceStatus
from edge_daemon.errors import SourceLost
from edge_daemon.inference.bundle import Bundle
from edge_daemon.monitoring.hardware import Board
from edge_daemon.monitoring.health import Delivery, Health
from edge_daemon.monitoring.load_shedding import Effort
from edge_daemon.pipeline import Chain, Pipeline, Stage
from edge_daemon.records import FrameResult
from edge_daemon.schema import HealthMessage, SpoolMessage

SPOOL = SpoolMessage(depth=3, oldest_age_s=4.5, dropped=1, durable=False)


class Overtaking:
    """A live capture and its only step, which sees the first of five frames until all came."""

    live = True
    name = "overtaking"

    def __init__(self) -> None:
        self._first_seen, self._all_put = threading.Event(), threading.Event()

    def run(self, put, _busy) -> None:
        put(0)
        assert self._first_seen.wait(PATIENCE)
        for number in range(1, 5):
            put(number)
        self._all_put.set()

    def see(self, _number: int) -> None:
        self._first_seen.set()
        assert self._all_put.wait(PATIENCE)

    def restarted(self) -> "Overtaking":
        return self

    def abandon(self) -> None:
        """Ends by itself."""


@pytest.fixture
def health(clock: FakeClock, bundle: Bundle, source: SourceStatus, tmp_path: Path) -> Health:
    return Health(clock, bundle, source, Board(sys=tmp_path))


def test_message_tells_of_all_parts(
    clock: FakeClock, bundle: Bundle, source: SourceStatus, tmp_path: Path
) -> None:
    zone = tmp_path / "class" / "thermal" / "thermal_zone0"
    firmware = tmp_path / "devices" / "platform" / "soc" / "soc:firmware"
    for file, content in {zone / "temp": "48312", firmware / "get_throttled": "50004"}.items():
        file.parent.mkdir(parents=True)
        file.write_text(content)
    health = Health(clock, bundle, source, Board(sys=tmp_path))
    health.delivery = lambda: Delivery({"mqtt": 7}, 2, SPOOL)
    clock.seconds += 10.04
    health(FrameResult(frame(0.5), (), frozenset()))
    source.running()
    message = health.message()
    assert message.time == clock.now()
    assert 20 < message.memory_mb < 4000
    assert message.model_dump(exclude={"time", "memory_mb", "latency_ms"}) == {
        "schema_version": 1,
        "uptime_s": 10.0,
        "version": __version__,
        "bundle_id": bundle.bundle_id,
        "source": "running",
        "fps_in": 0.1,
        "fps_out": 0.1,
        "dropped": {"mqtt": 7},
        "cpu_temperature_c": 48.3,
        "throttled": ("throttled",),
        "members_active": len(bundle.members),
        "members_total": len(bundle.members),
        "detection_every": 1,
        "spool": SPOOL.model_dump(),
        "reconnects": 2,
    }
    assert message.latency_ms is not None
    assert message.latency_ms.p50 == pytest.approx(9540)


def test_message_is_of_the_public_schema(health: Health) -> None:
    message = health.message()
    text = message.model_dump_json(by_alias=True)
    assert HealthMessage.model_validate_json(text) == message
    assert {key for key, value in json.loads(text).items() if value is None} == {
        "latency_ms",
        "cpu_temperature_c",
        "throttled",
    }


def test_step_passes_on_what_it_gets(health: Health) -> None:
    given = result(0.0, {1: probabilities(happy=0.7)})
    assert health(given) is given


def test_drops_of_the_pipelines_stages_are_told(health: Health) -> None:
    capture = Overtaking()
    pipeline = Pipeline(capture, Chain.of(Stage("see", capture.see)))
    health.watch(pipeline)
    assert health.message().dropped == {"see": 0}
    pipeline.run()
    assert health.message().dropped == {"see": 3}


def test_blank_frame_is_neither_late_nor_counted(health: Health, clock: FakeClock) -> None:
    health(FrameResult(dataclasses.replace(frame(), blank=True), (), frozenset()))
    assert health.message().fps_out == 0
    assert health.message().latency_ms is None


def test_members_active_are_those_that_the_last_scored_face_was_shown_to(
    health: Health, bundle: Bundle
) -> None:
    assert health.message().members_active == len(bundle.members)
    health(result(0.0, {1: probabilities(happy=0.7)}))
    assert health.message().members_active == 1
    health(result(0.1, {}))
    assert health.message().members_active == 1


def test_effort_is_told_until_a_scored_face_says_more(health: Health, bundle: Bundle) -> None:
    health.adjust(Effort(members=1, detection_every=3))
    message = health.message()
    assert (message.members_active, message.detection_every) == (1, 3)
    models = f"models: 1 of {len(bundle.members)}"
    assert health.summary() == f"source starting, {models}, detection in 1 of 3 frames"


def test_summary_is_a_line_for_people(
    health: Health, bundle: Bundle, source: SourceStatus, clock: FakeClock
) -> None:
    summaries = [health.summary()]
    source.running()
    clock.seconds += 2
    for step in range(20):
        health(result(step / 10, {1: probabilities(happy=0.7), 2: None}))
        health.adjust(Effort(len(bundle.members), detection_every=1))
    summaries.append(health.summary())
    source.lost(SourceLost("gone"))
    health.connected = lambda: False
    summaries.append(health.summary())
    assert summaries == [
        "source starting",
        "source running, 10 fps, faces in sight: 2",
        "source lost, broker away",
    ]


def test_source_is_told_as_it_is_now(health: Health, source: SourceStatus) -> None:
    states = [health.message().source]
    for change in (source.running, lambda: source.lost(SourceLost("gone")), source.paused):
        change()
        states.append(health.message().source)
    assert states == ["starting", "running", "lost", "paused"]
