"""Commands: what others send to the device."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from edge_daemon.publishing.mqtt import Received

logger = logging.getLogger(__name__)

Handler = Callable[[bytes], None]
"""Takes a payload; called on the network thread, so it must be quick, and it never raises."""

LONGEST_SHOWN: Final = 40
"""Characters of a wrong command in the log."""


def on_off(payload: bytes) -> bool | None:
    """What a switch is told: ON or OFF, spelt so; else None."""
    return {b"ON": True, b"OFF": False}.get(payload)


def switch(name: str, turn: Callable[[bool], None]) -> Handler:
    """The handler of a switch's commands; what is none is told once, and ignored."""
    told = False

    def handle(payload: bytes) -> None:
        nonlocal told
        if (position := on_off(payload)) is not None:
            turn(position)
        elif not told:
            told = True
            logger.warning(
                "a command that is neither ON nor OFF is ignored, and so will others be",
                extra={"switch": name, "command": repr(payload[:LONGEST_SHOWN])},
            )

    return handle


class Commands:
    """Hands what is received to its handler.

    What the broker has retained is no command of now: it would come again at every connect, long
    after whoever sent it. It is ignored, and told once.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self.topics = list(handlers)
        self._handlers = dict(handlers)
        self._told: set[str] = set()

    def take(self, received: Received) -> None:
        handler = self._handlers.get(received.topic)
        if received.retained:
            self._tell_retained(received.topic)
        elif handler is not None:
            handler(received.payload)

    def _tell_retained(self, topic: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            logger.warning("a retained command is ignored, send it anew", extra={"topic": topic})
