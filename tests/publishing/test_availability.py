import pytest
from conftest import FakeClock
from publishing.fixtures import Logs

from edge_daemon.publishing.state import OFFLINE, ONLINE, Availability
from edge_daemon.publishing.topics import Message


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
def availability(source: Source, clock: FakeClock) -> Availability:
    return Availability("base/porch/availability", 15.0, source.paused, clock)


def test_availability_is_retained(availability: Availability) -> None:
    message = Message("base/porch/availability", ONLINE, retain=True, qos=1)
    assert availability.current() == message
    assert availability.offline == Message(message.topic, OFFLINE, retain=True, qos=1)


def test_availability_without_results_is_offline_and_logged_once(
    availability: Availability, clock: FakeClock, logs: Logs
) -> None:
    for _ in range(3):
        clock.seconds += 10
        availability.current()
    assert availability.current().payload == OFFLINE
    availability.note_result()
    assert availability.current().payload == ONLINE
    assert [record.levelname for record in logs.records] == ["WARNING", "INFO"]


def test_availability_paused_is_online(
    availability: Availability, source: Source, clock: FakeClock
) -> None:
    source.is_paused = True
    clock.seconds += 1000
    assert availability.current().payload == ONLINE
    source.is_paused = False
    clock.seconds += 14
    assert availability.current().payload == ONLINE
    clock.seconds += 2
    assert availability.current().payload == OFFLINE
