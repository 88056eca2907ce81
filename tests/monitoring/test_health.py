import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import event, frame, probabilities, result
from conftest import FakeClock
from monitoring.conftest import FakePublisher

from edge_daemon import __version__
from edge_daemon.capture.status import SourceStatus
from edge_daemon.errors import SourceLost
from edge_daemon.inference.bundle import Bundle
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.load_shedding import DegradationLevel
from edge_daemon.monitoring.statistics import StageTimings
from edge_daemon.records import EventKind, FrameResult
from edge_daemon.schema import HealthMessage


@pytest.fixture
def health(
    clock: FakeClock, bundle: Bundle, source: SourceStatus, timings: StageTimings, tmp_path: Path
) -> Health:
    return Health(clock, bundle, source, timings, hardware=Hardware(sys=tmp_path))


def test_message_contains_figures_of_all_parts(
    clock: FakeClock, bundle: Bundle, source: SourceStatus, publisher: FakePublisher, hot_pi: Path
) -> None:
    timings = StageTimings(clock)
    health = Health(clock, bundle, source, timings, publisher, hardware=Hardware(sys=hot_pi))
    pipeline = SimpleNamespace(dropped={"detection": 4}, stuck_services=("commands",))
    health.poll(pipeline)  # type: ignore[arg-type]
    clock.seconds += 10.04
    health(FrameResult(frame(0.5), (), frozenset()))
    source.running()
    message = health.message()
    assert message.time == clock.now()
    assert message.memory_mb is not None
    assert 20 < message.memory_mb < 4000
    assert message.model_dump(exclude={"time", "memory_mb", "latency_ms"}) == {
        "schema_version": 1,
        "uptime_s": 10.0,
        "version": __version__,
        "bundle_id": bundle.bundle_id,
        "source": "running",
        "fps_in": 0.1,
        "fps_out": 0.1,
        "dropped": {"detection": 4, "mqtt": 7},
        "cpu_temperature_c": 48.3,
        "throttled": ("throttled",),
        "members_active": len(bundle.members),
        "members_total": len(bundle.members),
        "detection_interval": 1,
        "stuck_services": ("commands",),
        "event_queue": publisher.queued_events().model_dump(),
        "reconnects": 2,
    }
    assert message.latency_ms is not None
    assert message.latency_ms.p50 == pytest.approx(9540)


def test_message_without_sensors_has_nulls_and_keeps_the_schema(
    clock: FakeClock, bundle: Bundle, source: SourceStatus, timings: StageTimings, tmp_path: Path
) -> None:
    hardware = Hardware(sys=tmp_path / "absent", proc=tmp_path / "absent")
    message = Health(clock, bundle, source, timings, hardware=hardware).message()
    text = message.model_dump_json(by_alias=True)
    assert HealthMessage.model_validate_json(text) == message
    assert {key for key, value in json.loads(text).items() if value is None} == {
        "latency_ms",
        "cpu_temperature_c",
        "throttled",
        "memory_mb",
    }


def test_sink_counts_faces_by_emotion_and_events_by_kind(health: Health) -> None:
    first = result(0.0, {1: probabilities(happy=0.7), 2: None})
    health(dataclasses.replace(first, events=(event(EventKind.APPEARED),)))
    health(result(0.1, {1: probabilities(sad=0.7)}))
    assert health.faces == {"sad": 1}
    assert health.faces_total == {"happy": 1, "none": 1, "sad": 1}
    assert health.events_total == {EventKind.APPEARED: 1}


def test_blank_frame_does_not_count_as_result(health: Health) -> None:
    health(FrameResult(dataclasses.replace(frame(), is_blank=True), (), frozenset()))
    assert health.message().fps_out == 0
    assert health.message().latency_ms is None


def test_members_active_is_that_of_the_last_scored_face(health: Health, bundle: Bundle) -> None:
    assert health.message().members_active == len(bundle.members)
    health(result(0.0, {1: probabilities(happy=0.7)}))
    assert health.message().members_active == 1
    health(result(0.1, {}))
    assert health.message().members_active == 1


def test_degradation_level_is_reported(health: Health, bundle: Bundle) -> None:
    full = DegradationLevel(len(bundle.members), detection_interval=1)
    health.set_level(DegradationLevel(members=1, detection_interval=3), full)
    message = health.message()
    assert (message.members_active, message.detection_interval) == (1, 3)
    members = f"members: 1 of {len(bundle.members)}"
    assert health.summary() == "source starting"
    health.source.running()
    assert health.summary().endswith(f", {members}, detection in 1 of 3 frames")


def test_summary_after_a_reload_compares_with_the_new_full_level(
    health: Health, bundle: Bundle
) -> None:
    health.source.running()
    for interval, shed in ((4, 4), (2, 5), (6, 6)):
        models = len(bundle.members)
        health.set_level(DegradationLevel(models, shed), DegradationLevel(models, interval))
        assert ("detection in 1 of" in health.summary()) == (shed > interval)


def test_summary_shows_state_rate_faces_and_broker(
    clock: FakeClock,
    bundle: Bundle,
    source: SourceStatus,
    timings: StageTimings,
    publisher: FakePublisher,
) -> None:
    health = Health(clock, bundle, source, timings, publisher)
    full = DegradationLevel(len(bundle.members), detection_interval=1)
    summaries = [health.summary()]
    source.running()
    clock.seconds += 2
    for step in range(20):
        health(result(step / 10, {1: probabilities(happy=0.7), 2: None}))
        health.set_level(full, full)
    summaries.append(health.summary())
    source.lost(SourceLost("gone"))
    publisher.connected = False
    summaries.append(health.summary())
    assert summaries == [
        "source starting",
        "source running, 10 fps, faces in sight: 2",
        "source lost, broker disconnected",
    ]


def test_message_has_the_current_source_state(health: Health, source: SourceStatus) -> None:
    states = [health.message().source]
    for change in (source.running, lambda: source.lost(SourceLost("gone")), source.paused):
        change()
        states.append(health.message().source)
    assert states == ["starting", "running", "lost", "paused"]
