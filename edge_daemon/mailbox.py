"""The hand-over between two threads of the pipeline."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """Raised when a mailbox has no more items and never will."""


class Mailbox(Generic[T]):
    """Hands the newest item from one thread to another.

    Either the latest wins (a full slot is overwritten, and the loss counted), or, when
    `lossless`, the sender waits until the slot is free.
    """

    def __init__(self, *, lossless: bool) -> None:
        self.dropped = 0
        self._lossless = lossless
        self._slot: list[T] = []
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Leave an item. Does nothing once the mailbox is closed."""
        with self._changed:
            if self._lossless:
                self._changed.wait_for(lambda: not self._slot or self._closed)
            if self._closed:
                return
            self.dropped += len(self._slot)
            self._slot[:] = [item]
            self._changed.notify_all()

    def get(self) -> T:
        """Wait for an item and take it.

        Raises:
            Closed: the mailbox is closed, and the last item is taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._slot or self._closed)
            if not self._slot:
                raise Closed
            self._changed.notify_all()
            return self._slot.pop()

    def close(self, *, discard: bool = False) -> None:
        """Let no more items in; with `discard`, forget the one that waits."""
        with self._changed:
            self._closed = True
            if discard:
                self._slot.clear()
            self._changed.notify_all()
