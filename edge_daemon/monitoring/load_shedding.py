"""Load shedding: degrade step by step under overload or heat, recover step by step later.

Under heat the daemon first uses fewer members of the ensemble, then detects faces in fewer frames.
Under overload it detects faces in fewer frames; members that take too long are already left out by
the time budget (see `edge_daemon.inference.step`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon.config.settings import Settings, SheddingSettings
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.pipeline import Pipeline, Watcher

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S: Final = 5.0
"""Period over which the stages' load is averaged."""

OVERLOAD: Final = 0.95
"""Load from which a stage falls behind."""

MAX_EXPECTED_LOAD: Final = 0.8
"""Highest load that a recovery step may be expected to cause."""

HEAT_DELAY_S: Final = 30.0
"""Time until the temperature reflects a change."""

TEMPERATURE_HYSTERESIS: Final = 5.0
"""Degrees Celsius below the limit at which the machine no longer counts as hot."""

RECOVERY_DELAY_S: Final = 60.0
"""Time without strain before each recovery step."""


@dataclass(frozen=True)
class DegradationLevel:
    """How much work the daemon does for each frame."""

    members: int
    """Members of the ensemble to use at most."""
    detection_interval: int
    """Frames from one detection to the next."""

    def is_below(self, other: "DegradationLevel") -> bool:
        """Whether this level is more degraded than the other."""
        return self.members < other.members or self.detection_interval > other.detection_interval


@dataclass(frozen=True)
class Load:
    """Current system load."""

    detection: float
    """Share of the time for which the detection stage is busy, 0 to 1."""
    inference: float
    """The same of the inference stage."""
    temperature: float | None
    """Degrees Celsius of the CPU; None if unknown."""
    throttled: bool
    """Whether the firmware throttles the CPU."""

    @property
    def is_overload(self) -> bool:
        """Whether a stage is saturated, so that frames are dropped."""
        return max(self.detection, self.inference) >= OVERLOAD

    def is_at_least(self, degrees: float) -> bool:
        """Whether the CPU's temperature is known and reaches the value."""
        return self.temperature is not None and self.temperature >= degrees


class SheddingPolicy:
    """Chooses the degradation level for a load. Changes one thing at a time.

    Args:
        full: level without strain.
        limits: on the temperature and the detection interval.
    """

    def __init__(self, full: DegradationLevel, limits: SheddingSettings) -> None:
        self.level = self.full = full
        self._limits = limits
        self._changed_at = self._strained_at = float("-inf")

    def set_limits(self, full: DegradationLevel, limits: SheddingSettings) -> None:
        """Use other limits; the level keeps its distance from the full one as far as they allow."""
        longer = self.level.detection_interval - self.full.detection_interval
        longest = max(limits.max_interval, full.detection_interval)
        interval = min(full.detection_interval + longer, longest)
        self.level = replace(self.level, detection_interval=interval)
        self.full = full
        self._limits = limits

    def update(self, load: Load, now: float) -> DegradationLevel:
        """Choose the level for the current load; `now` is monotonic time in seconds."""
        chosen = self._chosen(load, now)
        if chosen != self.level:
            self.level, self._changed_at = chosen, now
        return self.level

    def _chosen(self, load: Load, now: float) -> DegradationLevel:
        is_hot = load.throttled or load.is_at_least(self._limits.max_temperature)
        is_warm = load.is_at_least(self._limits.max_temperature - TEMPERATURE_HYSTERESIS)
        if is_hot or is_warm or load.is_overload:
            self._strained_at = now
        if is_hot and now - self._changed_at >= HEAT_DELAY_S:
            return self._cooler()
        if load.is_overload:
            return self._with_fewer_detections()
        if now - max(self._strained_at, self._changed_at) >= RECOVERY_DELAY_S:
            return self._recovered(load)
        return self.level

    def _cooler(self) -> DegradationLevel:
        if self.level.members > 1:
            return replace(self.level, members=self.level.members - 1)
        return self._with_fewer_detections()

    def _with_fewer_detections(self) -> DegradationLevel:
        interval = self.level.detection_interval
        longer = max(interval, min(interval + 1, self._limits.max_interval))
        return replace(self.level, detection_interval=longer)

    def _recovered(self, load: Load) -> DegradationLevel:
        members, interval = self.level.members, self.level.detection_interval
        if interval > self.full.detection_interval:
            expected_load = load.detection * interval / (interval - 1)
            if expected_load < MAX_EXPECTED_LOAD:
                return replace(self.level, detection_interval=interval - 1)
        return replace(self.level, members=min(members + 1, self.full.members))


class LoadShedder(Watcher):
    """The watcher that measures the load and applies what the policy chooses.

    Args:
        settings: the limits.
        members: members of the ensemble.
        on_level_change: puts another level into effect; it also receives the level without strain.
        hardware: sensors of the machine.
        clock: the clock to use.
        enabled: whether to shed load; else the level only follows the settings.
    """

    def __init__(
        self,
        settings: Settings,
        members: int,
        on_level_change: Callable[[DegradationLevel, DegradationLevel], None],
        hardware: Hardware,
        clock: Clock,
        *,
        enabled: bool,
    ) -> None:
        self._members = members
        self._enabled = enabled
        self._policy = SheddingPolicy(self._full_level(settings), settings.shedding)
        self._on_level_change = on_level_change
        self._hardware = hardware
        self._clock = clock
        self._checked_at = clock.monotonic()
        self._busy_s: Mapping[str, float] = {}

    def apply(self, settings: Settings) -> None:
        """Use other limits."""
        self._policy.set_limits(self._full_level(settings), settings.shedding)
        self._on_level_change(self._policy.level, self._policy.full)

    def poll(self, pipeline: Pipeline) -> None:
        """Measure the load since the last check, and act on it."""
        now = self._clock.monotonic()
        if not self._enabled or now - self._checked_at < CHECK_INTERVAL_S:
            return
        load = self._load(pipeline.busy_total_s, now - self._checked_at)
        self._checked_at = now
        before = self._policy.level
        level = self._policy.update(load, now)
        if level != before:
            _log_change(before, level, load)
            self._on_level_change(level, self._policy.full)

    def _full_level(self, settings: Settings) -> DegradationLevel:
        return DegradationLevel(self._members, settings.detection.interval)

    def _load(self, busy_s: Mapping[str, float], period_s: float) -> Load:
        shares = {
            stage: (seconds - self._busy_s.get(stage, 0.0)) / period_s
            for stage, seconds in busy_s.items()
        }
        self._busy_s = busy_s
        return Load(
            detection=shares["detection"],
            inference=shares["inference"],
            temperature=self._hardware.cpu_temperature(),
            throttled=bool(self._hardware.throttled()),
        )


def _log_change(before: DegradationLevel, level: DegradationLevel, load: Load) -> None:
    degraded = level.is_below(before)
    logger.log(
        logging.WARNING if degraded else logging.INFO,
        "load shedding increased" if degraded else "load shedding reduced",
        extra={
            **vars(level),
            "detection_load": round(load.detection, 2),
            "inference_load": round(load.inference, 2),
            "temperature": load.temperature,
            "throttled": load.throttled,
        },
    )
