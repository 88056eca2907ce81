"""Guesses that another client has the same id: two such throw each other out for ever.

Some brokers say so (`TakenOver`), others just hang up. Then it shows in connections that end soon
after they were accepted, with none in between that failed, as it would while a broker is down.
"""

from typing import Final

from edge_daemon.publishing.mqtt import ConnectionEnded, HungUp, TakenOver

SUSPICIOUS: Final = 3
"""So many short connections in a row are no chance."""

SHORT: Final = 10.0
"""Seconds that a connection lasts at most when twins come back at once …"""

SHORT_FOR_TWINS: Final = 120.0
"""… and when they make pauses, since they know of each other."""


class Twins:
    """Watches how connections end."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def suspected(self, end: ConnectionEnded, lasted: float | None) -> bool:
        """Whether this end looks like a twin's doing.

        Args:
            end: of a connection.
            lasted: seconds for which it was accepted; None if it never was.
        """
        if isinstance(end, TakenOver):
            self._in_a_row = SUSPICIOUS
        elif lasted is None or not isinstance(end, HungUp):
            self._in_a_row = 0
        elif lasted < (SHORT if self._in_a_row < SUSPICIOUS else SHORT_FOR_TWINS):
            self._in_a_row += 1
        else:
            self._in_a_row = 0
        return self._in_a_row >= SUSPICIOUS
