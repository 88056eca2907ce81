"""Outages, which are logged once when they begin and once when they end."""

from edge_daemon._lib.clock import Clock


class Outage:
    """Whether something is out of order, and since when. It can happen repeatedly."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    @property
    def is_active(self) -> bool:
        return self._since is not None

    def begin(self) -> bool:
        """Record a failure; returns whether the outage begins with it."""
        if self._since is not None:
            return False
        self._since = self._clock.monotonic()
        return True

    def end(self) -> float | None:
        """Record a success; returns the seconds of the outage that ends with it, if any."""
        if self._since is None:
            return None
        seconds, self._since = self._clock.monotonic() - self._since, None
        return round(seconds, 1)
