import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import FakeClock

from edge_daemon.config.loading import load_settings
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.monitoring.load_shedding import (
    CHECK_INTERVAL_S,
    HEAT_DELAY_S,
    RECOVERY_DELAY_S,
    DegradationLevel,
    Load,
    LoadShedder,
    SheddingPolicy,
)

FULL = DegradationLevel(members=3, detection_interval=1)
SETTINGS = load_settings(flags={("detection", "interval"): 1, ("shedding", "max_interval"): 3})
EASY = Load(detection=0.2, inference=0.2, temperature=50.0, throttled=False)
HOT = replace(EASY, temperature=75.0)
WARM = replace(EASY, temperature=72.0)
BEHIND = replace(EASY, detection=0.99)


@pytest.fixture
def policy() -> SheddingPolicy:
    return SheddingPolicy(FULL, SETTINGS.shedding)


class Played:
    """A sequence of loads, each for some time."""

    def __init__(self, policy: SheddingPolicy) -> None:
        self._policy = policy
        self._now = 0.0

    def play(self, load: Load, seconds: float) -> list[tuple[int, int]]:
        """The sequence of levels, without repetitions."""
        levels: list[tuple[int, int]] = []
        end = self._now + seconds
        while self._now < end:
            level = self._policy.update(load, self._now)
            made = (level.members, level.detection_interval)
            if made not in levels[-1:]:
                levels.append(made)
            self._now += CHECK_INTERVAL_S
        return levels


def test_policy_without_strain_keeps_the_full_level(policy: SheddingPolicy) -> None:
    assert Played(policy).play(EASY, 600) == [(3, 1)]


@pytest.mark.parametrize("load", [HOT, replace(EASY, throttled=True, temperature=None)])
def test_policy_heat_sheds_models_then_detections(policy: SheddingPolicy, load: Load) -> None:
    played = Played(policy)
    assert played.play(load, 4 * HEAT_DELAY_S) == [(2, 1), (1, 1), (1, 2), (1, 3)]
    assert played.play(load, 600) == [(1, 3)]


def test_policy_overload_sheds_detections_only(policy: SheddingPolicy) -> None:
    played = Played(policy)
    assert played.play(BEHIND, 2 * CHECK_INTERVAL_S) == [(3, 2), (3, 3)]
    assert played.play(BEHIND, 600) == [(3, 3)]


def test_policy_inference_overload_sheds_detections(policy: SheddingPolicy) -> None:
    behind = replace(EASY, inference=1.0)
    assert Played(policy).play(behind, CHECK_INTERVAL_S) == [(3, 2)]


def test_policy_recovers_in_reverse_order(policy: SheddingPolicy) -> None:
    played = Played(policy)
    played.play(HOT, 600)
    assert played.play(EASY, RECOVERY_DELAY_S - CHECK_INTERVAL_S) == [(1, 3)]
    assert played.play(EASY, 4 * RECOVERY_DELAY_S + CHECK_INTERVAL_S) == [
        (1, 2),
        (1, 1),
        (2, 1),
        (3, 1),
    ]


def test_policy_does_not_recover_while_warm(policy: SheddingPolicy) -> None:
    played = Played(policy)
    played.play(HOT, HEAT_DELAY_S)
    assert played.play(WARM, 600) == [(2, 1)]
    assert played.play(replace(WARM, temperature=69.9), RECOVERY_DELAY_S + CHECK_INTERVAL_S) == [
        (2, 1),
        (3, 1),
    ]


def test_policy_does_not_recover_into_overload(policy: SheddingPolicy) -> None:
    played = Played(policy)
    played.play(BEHIND, CHECK_INTERVAL_S)
    assert played.play(replace(EASY, detection=0.5), 600) == [(3, 2)]
    assert played.play(replace(EASY, detection=0.39), CHECK_INTERVAL_S) == [(3, 1)]


def test_policy_recovers_models_though_detection_is_loaded(policy: SheddingPolicy) -> None:
    played = Played(policy)
    played.play(HOT, 4 * HEAT_DELAY_S)
    assert played.play(replace(EASY, detection=0.7), 3 * RECOVERY_DELAY_S)[-1] == (3, 3)


def test_policy_interval_above_the_limit_is_kept() -> None:
    policy = SheddingPolicy(DegradationLevel(1, detection_interval=8), SETTINGS.shedding)
    assert Played(policy).play(BEHIND, 60) == [(1, 8)]


def test_policy_at_the_temperature_limit_does_not_oscillate(policy: SheddingPolicy) -> None:
    played = Played(policy)
    levels = [
        level
        for _ in range(60)
        for load in (HOT, WARM)
        for level in played.play(load, CHECK_INTERVAL_S)
    ]
    models, intervals = zip(*levels, strict=True)
    assert list(models) == sorted(models, reverse=True)
    assert list(intervals) == sorted(intervals)
    assert levels[-1] == (1, 3)


class Stages:
    """The part of a pipeline that a watcher reads."""

    def __init__(self) -> None:
        self.busy_total_s = {"detection": 0.0, "inference": 0.0, "publishing": 0.0}

    def work(self, **seconds: float) -> None:
        self.busy_total_s = {
            stage: busy + seconds.get(stage, 0.0) for stage, busy in self.busy_total_s.items()
        }


@pytest.fixture
def zone(tmp_path: Path) -> Path:
    file = tmp_path / "class" / "thermal" / "thermal_zone0" / "temp"
    file.parent.mkdir(parents=True)
    file.write_text("50000")
    return file


class Levels(list[DegradationLevel]):
    """The levels that were applied."""

    full: DegradationLevel | None = None
    """The last level without strain."""

    def apply(self, level: DegradationLevel, full: DegradationLevel) -> None:
        self.append(level)
        self.full = full


@pytest.fixture
def levels() -> Levels:
    return Levels()


@pytest.fixture
def shedder(
    levels: Levels,
    tmp_path: Path,
    zone: Path,
    clock: FakeClock,
) -> LoadShedder:
    return LoadShedder(SETTINGS, 3, levels.apply, Hardware(sys=tmp_path), clock, enabled=True)


def look(
    shedder: LoadShedder, stages: Stages, clock: FakeClock, work: Iterable[dict[str, float]]
) -> None:
    for seconds in work:
        clock.seconds += CHECK_INTERVAL_S
        stages.work(**seconds)
        shedder.poll(stages)  # type: ignore[arg-type]


def test_shedder_load_covers_the_time_since_the_last_check(
    shedder: LoadShedder,
    levels: Levels,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stages = Stages()
    stages.work(detection=CHECK_INTERVAL_S)
    look(shedder, stages, clock, [{}, {"detection": 4.0}, {"publishing": 5.0}])
    assert levels == [
        DegradationLevel(3, 2)
    ]  # all that was done before the first check counts in it
    look(shedder, stages, clock, [{"detection": 4.9}])
    assert levels == [DegradationLevel(3, 2), DegradationLevel(3, 3)]
    (_, record) = caplog.records
    assert record.levelno == logging.WARNING
    fields = vars(record)
    assert (fields["members"], fields["detection_interval"], fields["detection_load"]) == (
        3,
        3,
        0.98,
    )
    assert (fields["temperature"], fields["throttled"]) == (50.0, False)


def test_shedder_heat_and_recovery_are_applied_and_logged(
    shedder: LoadShedder,
    levels: Levels,
    zone: Path,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    zone.write_text("80000")
    look(shedder, Stages(), clock, [{}])
    zone.write_text("50000")
    look(shedder, Stages(), clock, [{}] * 20)
    assert levels == [DegradationLevel(2, 1), DegradationLevel(3, 1)]
    assert caplog.messages == ["load shedding increased", "load shedding reduced"]


def test_shedder_between_checks_reads_nothing(
    shedder: LoadShedder, levels: Levels, zone: Path, clock: FakeClock
) -> None:
    zone.write_text("80000")
    for _ in range(10):
        shedder.poll(None)  # type: ignore[arg-type]
        clock.seconds += CHECK_INTERVAL_S / 11
    assert levels == []


def test_shedder_with_new_settings_applies_the_full_level(
    shedder: LoadShedder, levels: Levels
) -> None:
    shedder.apply(load_settings(flags={("detection", "interval"): 4}))
    assert levels == [DegradationLevel(3, 4)]


def test_shedder_with_new_settings_stays_degraded(
    shedder: LoadShedder, levels: Levels, zone: Path, clock: FakeClock
) -> None:
    zone.write_text("80000")
    look(shedder, Stages(), clock, [{}] * 14)
    assert levels[-1] == DegradationLevel(1, 2)
    shedder.apply(SETTINGS)
    assert levels[-1] == DegradationLevel(1, 2)
    assert levels.full == FULL
    shedder.apply(load_settings(flags={("detection", "interval"): 4}))
    assert levels[-1] == DegradationLevel(1, 5)
    assert levels.full == DegradationLevel(3, 4)


def test_shedder_disabled_only_follows_the_settings(
    levels: Levels, tmp_path: Path, zone: Path, clock: FakeClock
) -> None:
    shedder = LoadShedder(SETTINGS, 3, levels.apply, Hardware(sys=tmp_path), clock, enabled=False)
    zone.write_text("80000")
    look(shedder, Stages(), clock, [{"detection": 5.0}] * 9)
    assert levels == []
    shedder.apply(load_settings(flags={("detection", "interval"): 4}))
    assert levels == [DegradationLevel(3, 4)]
