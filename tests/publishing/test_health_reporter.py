import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest
from conftest import FakeClock
from running import PATIENCE

from edge_daemon._lib.files import bundled_models
from edge_daemon.capture.status import SourceStatus
from edge_daemon.config.settings import HealthSettings
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.statistics import StageTimings
from edge_daemon.publishing.messages import Message
from edge_daemon.publishing.state import HealthReporter
from edge_daemon.schema import HealthMessage


class Kept:
    """Published messages."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._arrived = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def wait_for(self, count: int) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, PATIENCE)

    @property
    def sources(self) -> list[str]:
        return [
            HealthMessage.model_validate_json(message.payload).source for message in self.messages
        ]


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def source(clock: FakeClock) -> SourceStatus:
    return SourceStatus("camera", clock)


@pytest.fixture
def health(clock: FakeClock, source: SourceStatus) -> Health:
    return Health(clock, read_bundle(bundled_models()), source, StageTimings(clock))


@contextmanager
def running(reporter: HealthReporter) -> Iterator[None]:
    with ThreadPoolExecutor(1) as executor:
        ended = executor.submit(reporter.run, nullcontext())
        try:
            yield
        finally:
            reporter.stop()
        ended.result(PATIENCE)


def test_reporter_start_publishes_retained(health: Health, kept: Kept) -> None:
    with running(HealthReporter(health, "base/porch/health", kept, HealthSettings(), PATIENCE)):
        kept.wait_for(1)
    (message,) = kept.messages
    assert (message.topic, message.retain, message.qos) == ("base/porch/health", True, 1)
    assert kept.sources == ["starting"]


def test_reporter_publishes_periodically(health: Health, kept: Kept) -> None:
    with running(HealthReporter(health, "health", kept, HealthSettings(), 0.02)):
        kept.wait_for(5)


def test_reporter_source_change_is_published_at_once(
    health: Health, kept: Kept, source: SourceStatus
) -> None:
    with running(HealthReporter(health, "health", kept, HealthSettings(), PATIENCE)):
        kept.wait_for(1)
        source.running()
        kept.wait_for(2)
        source.running()
        source.paused()
        kept.wait_for(3)
    assert kept.sources == ["starting", "running", "paused"]


def test_reporter_changed_interval_publishes_at_once(health: Health, kept: Kept) -> None:
    reporter = HealthReporter(health, "health", kept, HealthSettings(), PATIENCE)
    with running(reporter):
        kept.wait_for(1)
        reporter.apply(HealthSettings(interval=1.0))
        kept.wait_for(3)


def test_reporter_stopped_before_start_ends(health: Health, kept: Kept) -> None:
    reporter = HealthReporter(health, "health", kept, HealthSettings(), PATIENCE)
    reporter.stop()
    reporter.run(nullcontext())
    assert kept.messages == []
