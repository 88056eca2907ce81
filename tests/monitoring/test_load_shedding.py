import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import FakeClock

from edge_daemon.monitoring.hardware import Board
from edge_daemon.monitoring.load_shedding import (
    CALM,
    HEAT_DELAY,
    LOOK_INTERVAL,
    Effort,
    Load,
    LoadShedder,
    Shedding,
)

FULL = Effort(members=3, detection_every=1)
EASY = Load(detection=0.2, inference=0.2, temperature=50.0, throttled=False)
HOT = replace(EASY, temperature=75.0)
WARM = replace(EASY, temperature=72.0)
BEHIND = replace(EASY, detection=0.99)


@pytest.fixture
def shedding() -> Shedding:
    return Shedding(FULL, max_temperature=75.0, max_every=3)


class Played:
    """Loads one after another, each for some time, with all efforts that were made."""

    def __init__(self, shedding: Shedding) -> None:
        self._shedding = shedding
        self._now = 0.0

    def play(self, load: Load, seconds: float) -> list[tuple[int, int]]:
        """The efforts that followed each other, without repetitions."""
        efforts: list[tuple[int, int]] = []
        end = self._now + seconds
        while self._now < end:
            effort = self._shedding.look(load, self._now)
            made = (effort.members, effort.detection_every)
            if made not in efforts[-1:]:
                efforts.append(made)
            self._now += LOOK_INTERVAL
        return efforts


def test_nothing_is_shed_without_a_strain(shedding: Shedding) -> None:
    assert Played(shedding).play(EASY, 600) == [(3, 1)]


@pytest.mark.parametrize("load", [HOT, replace(EASY, throttled=True, temperature=None)])
def test_heat_sheds_members_and_then_detection_step_by_step(shedding: Shedding, load: Load) -> None:
    played = Played(shedding)
    assert played.play(load, 4 * HEAT_DELAY) == [(2, 1), (1, 1), (1, 2), (1, 3)]
    assert played.play(load, 600) == [(1, 3)]


def test_stage_that_is_behind_sheds_detection_and_no_member(shedding: Shedding) -> None:
    played = Played(shedding)
    assert played.play(BEHIND, 2 * LOOK_INTERVAL) == [(3, 2), (3, 3)]
    assert played.play(BEHIND, 600) == [(3, 3)]


def test_inference_that_is_behind_has_detection_leave_it_the_processor(shedding: Shedding) -> None:
    behind = replace(EASY, inference=1.0)
    assert Played(shedding).play(behind, LOOK_INTERVAL) == [(3, 2)]


def test_all_is_taken_back_step_by_step_in_the_other_order(shedding: Shedding) -> None:
    played = Played(shedding)
    played.play(HOT, 600)
    assert played.play(EASY, CALM - LOOK_INTERVAL) == [(1, 3)]
    assert played.play(EASY, 4 * CALM + LOOK_INTERVAL) == [(1, 2), (1, 1), (2, 1), (3, 1)]


def test_nothing_is_taken_back_while_it_is_still_warm(shedding: Shedding) -> None:
    played = Played(shedding)
    played.play(HOT, HEAT_DELAY)
    assert played.play(WARM, 600) == [(2, 1)]
    assert played.play(replace(WARM, temperature=69.9), CALM + LOOK_INTERVAL) == [(2, 1), (3, 1)]


def test_detection_is_not_taken_back_where_it_would_be_behind_again(shedding: Shedding) -> None:
    played = Played(shedding)
    played.play(BEHIND, LOOK_INTERVAL)
    assert played.play(replace(EASY, detection=0.5), 600) == [(3, 2)]
    assert played.play(replace(EASY, detection=0.39), LOOK_INTERVAL) == [(3, 1)]


def test_members_come_back_though_detection_cannot(shedding: Shedding) -> None:
    played = Played(shedding)
    played.play(HOT, 4 * HEAT_DELAY)
    assert played.play(replace(EASY, detection=0.7), 3 * CALM)[-1] == (3, 3)


def test_more_than_the_limit_in_the_settings_is_left_as_it_is() -> None:
    shedding = Shedding(Effort(1, detection_every=8), max_temperature=75.0, max_every=3)
    assert Played(shedding).play(BEHIND, 60) == [(1, 8)]


def test_machine_that_hovers_at_the_limit_does_not_flicker(shedding: Shedding) -> None:
    played = Played(shedding)
    efforts = [
        effort
        for _ in range(60)
        for load in (HOT, WARM)
        for effort in played.play(load, LOOK_INTERVAL)
    ]
    members, everies = zip(*efforts, strict=True)
    assert list(members) == sorted(members, reverse=True)
    assert list(everies) == sorted(everies)
    assert efforts[-1] == (1, 3)


class Stages:
    """As much of a pipeline as is looked at."""

    def __init__(self) -> None:
        self.busy_seconds = {"detection": 0.0, "inference": 0.0, "publishing": 0.0}

    def work(self, **seconds: float) -> None:
        self.busy_seconds = {
            stage: busy + seconds.get(stage, 0.0) for stage, busy in self.busy_seconds.items()
        }


@pytest.fixture
def zone(tmp_path: Path) -> Path:
    file = tmp_path / "class" / "thermal" / "thermal_zone0" / "temp"
    file.parent.mkdir(parents=True)
    file.write_text("50000")
    return file


@pytest.fixture
def efforts() -> list[Effort]:
    return []


@pytest.fixture
def shedder(
    shedding: Shedding, efforts: list[Effort], tmp_path: Path, zone: Path, clock: FakeClock
) -> LoadShedder:
    return LoadShedder(shedding, efforts.append, Board(sys=tmp_path), clock)


def look(
    shedder: LoadShedder, stages: Stages, clock: FakeClock, work: Iterable[dict[str, float]]
) -> None:
    for seconds in work:
        clock.seconds += LOOK_INTERVAL
        stages.work(**seconds)
        shedder.poll(stages)  # type: ignore[arg-type]


def test_load_is_what_the_stages_did_since_the_last_look(
    shedder: LoadShedder,
    efforts: list[Effort],
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stages = Stages()
    stages.work(detection=LOOK_INTERVAL)
    look(shedder, stages, clock, [{}, {"detection": 4.0}, {"publishing": 5.0}])
    assert efforts == [Effort(3, 2)]  # all that was done before the first look was done in it
    look(shedder, stages, clock, [{"detection": 4.9}])
    assert efforts == [Effort(3, 2), Effort(3, 3)]
    (_, record) = caplog.records
    assert record.levelno == logging.WARNING
    fields = vars(record)
    assert (fields["members"], fields["detection_every"], fields["detection_busy"]) == (3, 3, 0.98)
    assert (fields["temperature"], fields["throttled"]) == (50.0, False)


def test_machines_heat_is_acted_upon_and_its_end_told(
    shedder: LoadShedder,
    efforts: list[Effort],
    zone: Path,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    zone.write_text("80000")
    look(shedder, Stages(), clock, [{}])
    zone.write_text("50000")
    look(shedder, Stages(), clock, [{}] * 20)
    assert efforts == [Effort(2, 1), Effort(3, 1)]
    assert caplog.messages == ["doing less: too much load", "doing more again"]


def test_between_two_looks_nothing_is_read(
    shedder: LoadShedder, efforts: list[Effort], zone: Path, clock: FakeClock
) -> None:
    zone.write_text("80000")
    for _ in range(10):
        shedder.poll(None)  # type: ignore[arg-type]
        clock.seconds += LOOK_INTERVAL / 11
    assert efforts == []


def test_another_policy_begins_with_its_full_effort(
    shedder: LoadShedder, efforts: list[Effort]
) -> None:
    shedder.adjust(Shedding(Effort(2, 4), 75.0, 5))
    assert efforts == [Effort(2, 4)]
