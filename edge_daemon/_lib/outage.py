"""Troubles that last a while, told once when they begin and once when they are over."""

from edge_daemon._lib.clock import Clock


class Episode:
    """Whether a trouble goes on, and since when; it may happen again and again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    @property
    def going_on(self) -> bool:
        return self._since is not None

    def begin(self) -> bool:
        """Note the trouble; whether it is news."""
        if self._since is not None:
            return False
        self._since = self._clock.monotonic()
        return True

    def end(self) -> float | None:
        """Note that all is well; how many seconds the trouble lasted, if there was one."""
        if self._since is None:
            return None
        lasted, self._since = self._clock.monotonic() - self._since, None
        return round(lasted, 1)
