"""Shared fixtures of the tests of monitoring."""

from pathlib import Path

import pytest
from conftest import FakeClock

from edge_daemon._lib.files import bundled_models
from edge_daemon.capture.status import SourceStatus
from edge_daemon.inference.bundle import Bundle, read_bundle
from edge_daemon.monitoring.statistics import StageTimings
from edge_daemon.schema import EventQueueStatus


class FakePublisher:
    """A publisher with fixed figures."""

    connected = True
    reconnects = 2
    dropped = 7

    def queued_events(self) -> EventQueueStatus:
        return EventQueueStatus(depth=3, oldest_age_s=4.5, dropped=1, durable=False)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(bundled_models())


@pytest.fixture
def source(clock: FakeClock) -> SourceStatus:
    return SourceStatus("camera", clock)


@pytest.fixture
def timings(clock: FakeClock) -> StageTimings:
    return StageTimings(clock)


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def hot_pi(tmp_path: Path) -> Path:
    """A `/sys` with a CPU at 48.3 °C that the firmware throttles."""
    write_hot_pi(tmp_path)
    return tmp_path


def write_hot_pi(sys: Path) -> None:
    """Write the sensors of a Raspberry Pi into a folder that stands for `/sys`."""
    zone = sys / "class" / "thermal" / "thermal_zone0"
    firmware = sys / "devices" / "platform" / "soc" / "soc:firmware"
    for file, content in {zone / "temp": "48312", firmware / "get_throttled": "50004"}.items():
        file.parent.mkdir(parents=True)
        file.write_text(content)
