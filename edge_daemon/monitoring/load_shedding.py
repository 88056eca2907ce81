"""Doing less while the machine cannot keep up or is too hot, and more again later.

Members of the ensemble go first, where it is hot; those that take too long are left out by the
time budget already (see `edge_daemon.inference.budget`). Then faces are looked for in fewer frames.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon.monitoring.hardware import Board
from edge_daemon.pipeline import Pipeline

logger = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 5.0
"""Seconds over which the stages' load is taken."""

BUSY: Final = 0.95
"""Share of the time for which a stage that falls behind is busy."""

EASY: Final = 0.8
"""Share that a step back may be expected to lead to, at most."""

HEAT_DELAY: Final = 30.0
"""Seconds until a change can be felt in the temperature."""

COOLER: Final = 5.0
"""Degrees below the limit at which it is no longer hot."""

CALM: Final = 60.0
"""Seconds without a strain after which one step is taken back."""


@dataclass(frozen=True)
class Effort:
    """How much is done."""

    members: int
    """Models of the ensemble that are asked at most."""
    detection_every: int
    """Frames from one detection to the next."""


@dataclass(frozen=True)
class Load:
    """How hard the machine has it."""

    detection: float
    """Share of the time for which the detection stage was busy …"""
    inference: float
    """… and the inference stage."""
    temperature: float | None
    """Degrees Celsius; None where it is unknown."""
    throttled: bool
    """Whether the firmware holds the CPU back."""

    @property
    def behind(self) -> bool:
        """Whether a stage cannot do more, so that frames are dropped."""
        return max(self.detection, self.inference) >= BUSY

    def at_least(self, degrees: float) -> bool:
        return self.temperature is not None and self.temperature >= degrees


class Shedding:
    """What to do, given the load. It changes one thing at a time, and waits for the effect.

    Args:
        full: what is done without a strain.
        max_temperature: degrees Celsius from which it is too hot.
        max_every: frames from one detection to the next at most.
    """

    def __init__(self, full: Effort, max_temperature: float, max_every: int) -> None:
        self.effort = self._full = full
        self._max_temperature = max_temperature
        self._max_every = max_every
        self._changed = self._strained = float("-inf")

    def look(self, load: Load, now: float) -> Effort:
        """Decide anew; `now` is in seconds."""
        wanted = self._wanted(load, now)
        if wanted != self.effort:
            self.effort, self._changed = wanted, now
        return self.effort

    def _wanted(self, load: Load, now: float) -> Effort:
        hot = load.throttled or load.at_least(self._max_temperature)
        if hot or load.behind or load.at_least(self._max_temperature - COOLER):
            self._strained = now
        if hot and now - self._changed >= HEAT_DELAY:
            return self._cooler()
        if load.behind:
            return self._rarer()
        if now - max(self._strained, self._changed) >= CALM:
            return self._more(load)
        return self.effort

    def _cooler(self) -> Effort:
        if self.effort.members > 1:
            return replace(self.effort, members=self.effort.members - 1)
        return self._rarer()

    def _rarer(self) -> Effort:
        every = self.effort.detection_every
        return replace(self.effort, detection_every=max(every, min(every + 1, self._max_every)))

    def _more(self, load: Load) -> Effort:
        members, every = self.effort.members, self.effort.detection_every
        if every > self._full.detection_every and load.detection * every / (every - 1) < EASY:
            return replace(self.effort, detection_every=every - 1)
        return replace(self.effort, members=min(members + 1, self._full.members))


class LoadShedder:
    """The watcher that has the stages do what `Shedding` decides.

    Args:
        shedding: decides.
        apply: has another effort made.
        board: what is read of the machine.
        clock: where the time is read.
    """

    def __init__(
        self, shedding: Shedding, apply: Callable[[Effort], None], board: Board, clock: Clock
    ) -> None:
        self._shedding = shedding
        self._apply = apply
        self._board = board
        self._clock = clock
        self._looked = clock.monotonic()
        self._busy: Mapping[str, float] = {}

    def adjust(self, shedding: Shedding) -> None:
        """Have another one decide from now on."""
        self._shedding = shedding
        self._apply(shedding.effort)

    def poll(self, pipeline: Pipeline) -> None:
        """Take the load of the last seconds, and act on it."""
        now = self._clock.monotonic()
        if now - self._looked < LOOK_INTERVAL:
            return
        load = self._load(pipeline.busy_seconds, now - self._looked)
        self._looked = now
        before = self._shedding.effort
        effort = self._shedding.look(load, now)
        if effort != before:
            _tell(before, effort, load)
            self._apply(effort)

    def stopping(self) -> None:
        """There is nothing to end."""

    def _load(self, busy: Mapping[str, float], seconds: float) -> Load:
        shares = {stage: (busy[stage] - self._busy.get(stage, 0.0)) / seconds for stage in busy}
        self._busy = busy
        return Load(
            detection=shares["detection"],
            inference=shares["inference"],
            temperature=self._board.cpu_temperature(),
            throttled=bool(self._board.throttled()),
        )


def _tell(before: Effort, effort: Effort, load: Load) -> None:
    less = effort.members < before.members or effort.detection_every > before.detection_every
    logger.log(
        logging.WARNING if less else logging.INFO,
        "doing less: too much load" if less else "doing more again",
        extra={
            **vars(effort),
            "detection_busy": round(load.detection, 2),
            "inference_busy": round(load.inference, 2),
            "temperature": load.temperature,
            "throttled": load.throttled,
        },
    )
