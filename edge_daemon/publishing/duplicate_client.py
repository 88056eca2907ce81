"""Guesses that another client has the same id: two such throw each other out for ever.

Some brokers say so (`TakenOver`), others just hang up. Then it shows in connections that end soon
after they were accepted, with none in between that failed, as it would while a broker is down.
"""

from typing import Final

from edge_daemon.publishing.mqtt import ConnectionEnded, HungUp, TakenOver

SUSPICIOUS: Final = 5
"""So many short connections in a row are hardly chance."""

SHORT: Final = 5.0
"""Seconds that a connection lasts at most when twins come back at once …"""

SHORT_FOR_TWINS: Final = 120.0
"""… and when they make pauses, since they know of each other."""


class Twins:
    """Watches how connections end."""

    def __init__(self) -> None:
        self._in_a_row = 0

    @property
    def suspected(self) -> bool:
        return self._in_a_row >= SUSPICIOUS

    def note(self, end: ConnectionEnded, lasted: float | None) -> None:
        """Take the end of a connection into account.

        Args:
            end: of a connection.
            lasted: seconds for which it was accepted; None if it never was.
        """
        if isinstance(end, TakenOver):
            self._in_a_row = SUSPICIOUS
        elif lasted is None or not isinstance(end, HungUp):
            self._in_a_row = 0
        elif lasted < (SHORT_FOR_TWINS if self.suspected else SHORT):
            self._in_a_row += 1
        else:
            self._in_a_row = 0
