import pytest
from conftest import FakeClock
from publishing.fixtures import Logs

from edge_daemon.publishing.messages import Message
from edge_daemon.publishing.state import (
    OFFLINE,
    ONLINE,
    OVERWRITTEN,
    OVERWRITTEN_LOG_INTERVAL_S,
    REPEAT_INTERVAL_S,
    SETTLE_S,
    AvailabilityMonitor,
    OverwriteDetector,
)


class Source:
    """A source that a test can pause."""

    def __init__(self) -> None:
        self.is_paused = False

    def paused(self) -> bool:
        return self.is_paused


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def availability(source: Source, clock: FakeClock) -> AvailabilityMonitor:
    return AvailabilityMonitor("base/porch/availability", 15.0, source.paused, clock)


def test_availability_is_retained(availability: AvailabilityMonitor) -> None:
    message = Message("base/porch/availability", ONLINE, retain=True, qos=1)
    assert availability.current() == message
    assert availability.offline == Message(message.topic, OFFLINE, retain=True, qos=1)


def test_availability_without_results_is_offline_and_logged_once(
    availability: AvailabilityMonitor, clock: FakeClock, logs: Logs
) -> None:
    for _ in range(3):
        clock.seconds += 10
        availability.current()
    assert availability.current().payload == OFFLINE
    availability.note_result()
    assert availability.current().payload == ONLINE
    assert [record.levelname for record in logs.records] == ["WARNING", "INFO"]


def test_availability_paused_is_online(
    availability: AvailabilityMonitor, source: Source, clock: FakeClock
) -> None:
    source.is_paused = True
    clock.seconds += 1000
    assert availability.current().payload == ONLINE
    source.is_paused = False
    clock.seconds += 14
    assert availability.current().payload == ONLINE
    clock.seconds += 2
    assert availability.current().payload == OFFLINE


@pytest.fixture
def overwrites(clock: FakeClock) -> OverwriteDetector:
    return OverwriteDetector("base/porch/availability", clock)


def test_overwrite_detector_own_messages_need_no_repetition(
    overwrites: OverwriteDetector, clock: FakeClock
) -> None:
    overwrites.on_received(OFFLINE)  # retained since the last run
    for payload in (ONLINE, OFFLINE, ONLINE):
        overwrites.on_published(payload)
    for payload in (ONLINE, OFFLINE, ONLINE):
        overwrites.on_received(payload)
        assert not overwrites.take_repeat()
    clock.seconds += 2 * SETTLE_S
    assert not overwrites.take_repeat()


@pytest.mark.parametrize("payload", [OFFLINE, b"", b"other"])
def test_overwrite_detector_foreign_payload_needs_repetition(
    overwrites: OverwriteDetector, clock: FakeClock, payload: bytes
) -> None:
    overwrites.on_published(ONLINE)
    overwrites.on_received(payload)
    assert not overwrites.take_repeat()
    clock.seconds += SETTLE_S
    assert overwrites.take_repeat()
    overwrites.on_published(ONLINE)
    overwrites.on_received(ONLINE)
    clock.seconds += REPEAT_INTERVAL_S
    assert not overwrites.take_repeat()


def test_overwrite_detector_offline_is_not_defended(
    overwrites: OverwriteDetector, clock: FakeClock
) -> None:
    overwrites.on_published(OFFLINE)
    overwrites.on_received(ONLINE)
    clock.seconds += SETTLE_S
    assert not overwrites.take_repeat()


def test_overwrite_detector_flood_is_answered_at_intervals(
    overwrites: OverwriteDetector, clock: FakeClock, logs: Logs
) -> None:
    repetitions = 0
    overwrites.on_published(ONLINE)
    while clock.seconds < OVERWRITTEN_LOG_INTERVAL_S:
        overwrites.on_received(OFFLINE)
        if overwrites.take_repeat():
            repetitions += 1
            overwrites.on_published(ONLINE)
        clock.seconds += 0.5
    assert 200 < repetitions <= OVERWRITTEN_LOG_INTERVAL_S / REPEAT_INTERVAL_S
    assert len(logs.of(OVERWRITTEN)) == 1
