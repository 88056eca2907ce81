import threading

import pytest
from conftest import FakeClock
from publishing.fixtures import Told

from edge_daemon.publishing.keep_alive import Liveness


@pytest.fixture
def paused() -> threading.Event:
    return threading.Event()


@pytest.fixture
def liveness(clock: FakeClock, paused: threading.Event) -> Liveness:
    return Liveness(15.0, paused.is_set, clock)


def test_without_results_it_is_dead_after_a_while(
    liveness: Liveness, clock: FakeClock, told: Told
) -> None:
    for _ in range(4):
        clock.seconds += 5
        assert liveness.alive() == (clock.seconds <= 1015)
    clock.seconds += 5
    assert not liveness.alive()
    liveness.note()
    assert liveness.alive()
    assert [record.levelname for record in told.records] == ["WARNING", "INFO"]
    assert vars(told.records[1])["seconds"] == 5.0


def test_each_result_is_a_sign(liveness: Liveness, clock: FakeClock) -> None:
    for _ in range(10):
        clock.seconds += 10
        liveness.note()
        assert liveness.alive()


def test_a_pause_is_no_death_and_its_end_gives_time(
    liveness: Liveness, clock: FakeClock, paused: threading.Event
) -> None:
    paused.set()
    for _ in range(10):
        clock.seconds += 10
        assert liveness.alive()
    paused.clear()
    clock.seconds += 14
    assert liveness.alive()
    clock.seconds += 2
    assert not liveness.alive()
