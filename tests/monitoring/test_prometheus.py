import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import event, frame, probabilities, result
from conftest import FakeClock
from monitoring.conftest import FakePublisher
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge_daemon import __version__
from edge_daemon.capture.status import SourceStatus
from edge_daemon.inference.bundle import Bundle
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.prometheus import HealthCollector
from edge_daemon.monitoring.statistics import StageTimings
from edge_daemon.records import FrameResult

Samples = dict[tuple[str, frozenset[str]], float]
"""Values by name and label values."""


@pytest.fixture
def health(
    clock: FakeClock, bundle: Bundle, timings: StageTimings, publisher: FakePublisher, hot_pi: Path
) -> Health:
    source = SourceStatus("camera", clock)
    return Health(clock, bundle, source, timings, publisher, hardware=Hardware(sys=hot_pi))


def scraped(health: Health, *, include_emotions: bool = False) -> Samples:
    """All samples that Prometheus reads, without the prefix."""
    registry = CollectorRegistry()
    registry.register(HealthCollector(health, include_emotions=include_emotions))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name.removeprefix("edge_daemon_"), frozenset(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def key(name: str, *labels: str) -> tuple[str, frozenset[str]]:
    return name, frozenset(labels)


def test_collector_exports_health_in_base_units(
    health: Health, timings: StageTimings, clock: FakeClock, bundle: Bundle
) -> None:
    clock.seconds += 2.5
    health(FrameResult(frame(2.0, index=9), (), frozenset()))
    timings.record("detection", 0.02)
    samples = scraped(health)
    buckets = {name for name, _ in samples if name.endswith("_bucket")}
    assert buckets == {"latency_seconds_bucket", "stage_duration_seconds_bucket"}
    others = {name: value for name, value in samples.items() if name[0] not in buckets}
    assert others == {
        key("info", __version__, bundle.bundle_id): 1,
        key("uptime_seconds"): 2.5,
        key("source_state", "starting"): 1,
        key("source_state", "running"): 0,
        key("source_state", "lost"): 0,
        key("source_state", "paused"): 0,
        key("frames_total"): 10,
        key("messages_dropped_total"): 7,
        key("latency_seconds_sum"): 0.5,
        key("latency_seconds_count"): 1,
        key("stage_duration_seconds_sum", "detection"): 0.02,
        key("stage_duration_seconds_count", "detection"): 1,
        key("members"): len(bundle.members),
        key("members_active"): len(bundle.members),
        key("detection_interval_frames"): 1,
        key("cpu_temperature_celsius"): 48.3,
        key("throttled", "under_voltage"): 0,
        key("throttled", "frequency_capped"): 0,
        key("throttled", "throttled"): 1,
        key("throttled", "soft_temperature_limit"): 0,
        key("broker_connected"): 1,
        key("broker_reconnects_total"): 2,
        key("event_queue_events"): 3,
        key("event_queue_oldest_age_seconds"): 4.5,
        key("event_queue_dropped_total"): 1,
        key("event_queue_durable"): 0,
    }


def test_histogram_buckets_are_cumulative(health: Health, timings: StageTimings) -> None:
    for seconds in (0.004, 0.02, 99.0):
        timings.record("detection", seconds)
    samples = scraped(health)
    bounds = ("0.0025", "0.005", "0.025", "10.0", "+Inf")
    name = "stage_duration_seconds_bucket"
    assert [samples[key(name, "detection", bound)] for bound in bounds] == [0, 1, 2, 2, 3]


def test_dropped_frames_are_apart_from_messages(health: Health) -> None:
    pipeline = SimpleNamespace(dropped={"detection": 3}, stuck_services=())
    health.poll(pipeline)  # type: ignore[arg-type]
    samples = scraped(health)
    assert samples[key("frames_dropped_total", "detection")] == 3
    assert samples[key("messages_dropped_total")] == 7


def test_unknown_sensor_values_are_absent(
    clock: FakeClock, bundle: Bundle, source: SourceStatus, timings: StageTimings, tmp_path: Path
) -> None:
    health = Health(clock, bundle, source, timings, hardware=Hardware(sys=tmp_path))
    names = {name for name, _ in scraped(health)}
    assert not names & {"cpu_temperature_celsius", "throttled", "broker_connected"}
    assert "latency_seconds_count" in names


def test_exactly_one_source_state_is_set(health: Health) -> None:
    health.source.paused()
    samples = scraped(health)
    states = ("starting", "running", "lost", "paused")
    assert [samples[key("source_state", state)] for state in states] == [0, 0, 0, 1]


def test_emotions_are_exported_only_if_enabled(health: Health) -> None:
    seen = result(0.0, {1: probabilities(happy=0.7), 2: None})
    health(dataclasses.replace(seen, events=(event(),)))
    default, full = scraped(health), scraped(health, include_emotions=True)
    assert not {name for name, labels in default if labels & {"happy", "none", "appeared"}}
    assert full.keys() > default.keys()
    assert full[key("faces", "happy")] == full[key("faces", "none")] == 1
    assert full[key("faces", "sad")] == 0
    assert full[key("faces_observed_total", "happy")] == 1
    assert full[key("events_total", "appeared")] == 1
    assert full[key("events_total", "left")] == 0


def test_metric_names_follow_conventions(health: Health) -> None:
    for family in HealthCollector(health, include_emotions=True).collect():
        assert family.name.startswith("edge_daemon")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_ms", "_total", "_percent", "_mb", "_count"))
