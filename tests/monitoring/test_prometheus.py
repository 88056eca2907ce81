from collections.abc import Callable
from pathlib import Path

import pytest
from builders import frame
from conftest import FakeClock
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge_daemon import __version__
from edge_daemon.capture.status import SourceStatus
from edge_daemon.inference.bundle import Bundle
from edge_daemon.monitoring.hardware import Board
from edge_daemon.monitoring.health import Delivery, Health
from edge_daemon.monitoring.prometheus import HealthCollector
from edge_daemon.records import FrameResult
from edge_daemon.schema import SpoolMessage

Samples = dict[tuple[str, frozenset[str]], float]
"""Values by name and values of labels."""


@pytest.fixture
def health_on(clock: FakeClock, bundle: Bundle, source: SourceStatus) -> Callable[[Path], Health]:
    """Health of a machine whose kernel shows its files in a folder."""
    spool = SpoolMessage(depth=3, oldest_age_s=4.5, dropped=1, durable=False)

    def health_on(sys: Path) -> Health:
        health = Health(clock, bundle, source, Board(sys))
        health.delivery = lambda: Delivery({"mqtt": 7}, reconnects=2, spool=spool)
        return health

    return health_on


def samples(health: Health) -> Samples:
    """What Prometheus reads, and of which type."""
    registry = CollectorRegistry()
    registry.register(HealthCollector(health))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name.removeprefix("edge_daemon_"), frozenset(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def one(name: str, *labels: str) -> tuple[str, frozenset[str]]:
    return name, frozenset(labels)


def test_figures_are_the_health_messages_in_base_units(
    health_on: Callable[[Path], Health],
    clock: FakeClock,
    bundle: Bundle,
    tmp_path: Path,
) -> None:
    zone = tmp_path / "class" / "thermal" / "thermal_zone0"
    firmware = tmp_path / "devices" / "platform" / "soc" / "soc:firmware"
    for file, content in {zone / "temp": "48300", firmware / "get_throttled": "50004"}.items():
        file.parent.mkdir(parents=True)
        file.write_text(content)
    health = health_on(tmp_path)
    clock.seconds += 2.5
    health(FrameResult(frame(2.0, index=9), (), frozenset()))
    assert samples(health) == {
        one("info", __version__, bundle.bundle_id): 1,
        one("uptime_seconds"): 2.5,
        one("source_state", "starting"): 1,
        one("source_state", "running"): 0,
        one("source_state", "lost"): 0,
        one("source_state", "paused"): 0,
        one("frames_total"): 10,
        one("dropped_total", "mqtt"): 7,
        one("latency_seconds", "0.5"): 0.5,
        one("latency_seconds", "0.95"): 0.5,
        one("latency_seconds_sum"): 0.5,
        one("latency_seconds_count"): 1,
        one("members"): len(bundle.members),
        one("members_active"): len(bundle.members),
        one("detection_every"): 1,
        one("cpu_temperature_celsius"): 48.3,
        one("throttled", "under_voltage"): 0,
        one("throttled", "frequency_capped"): 0,
        one("throttled", "throttled"): 1,
        one("throttled", "soft_temperature_limit"): 0,
        one("broker_reconnects_total"): 2,
        one("spool_events"): 3,
        one("spool_oldest_age_seconds"): 4.5,
        one("spool_dropped_total"): 1,
        one("spool_durable"): 0,
    }


def test_what_is_unknown_is_left_out(health_on: Callable[[Path], Health], tmp_path: Path) -> None:
    names = {name for name, _ in samples(health_on(tmp_path))}
    assert not names & {"cpu_temperature_celsius", "throttled", "latency_seconds"}
    assert "latency_seconds_count" in names


def test_one_state_of_the_source_holds_at_a_time(
    health_on: Callable[[Path], Health], source: SourceStatus, tmp_path: Path
) -> None:
    health = health_on(tmp_path)
    source.paused()
    read = samples(health)
    states = ("starting", "running", "lost", "paused")
    assert [read[one("source_state", state)] for state in states] == [0, 0, 0, 1]


def test_names_keep_prometheus_conventions(
    health_on: Callable[[Path], Health], tmp_path: Path
) -> None:
    for family in HealthCollector(health_on(tmp_path)).collect():
        assert family.name.startswith("edge_daemon")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_ms", "_total", "_percent", "_mb", "_count"))
