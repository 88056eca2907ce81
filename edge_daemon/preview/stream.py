"""The newest encoded frame, and the clients that wait for it.

A client requests each message and gets the newest one. So a slow client skips frames, a dead client
holds nothing, and a frame is encoded once for all clients. Without clients no frame is kept.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from edge_daemon._lib.clock import Clock
from edge_daemon.records import FrameResult

HEARTBEAT_S: Final = 1.0
"""Longest time without a message: figures change also without frames."""


class EncodedFrame(NamedTuple):
    """A message for all clients."""

    number: int
    """Sequence number, from 1."""
    content: bytes


class Stream:
    """Hands results from the pipeline's thread to the event loop.

    `publish`, `notify` and `close` may be called from any thread and never wait; everything else
    belongs to the event loop's thread.

    Args:
        encode: encodes the newest result, given the number of clients.
        fps: messages per second at most.
        clock: source of the time.
    """

    def __init__(
        self, encode: Callable[[FrameResult | None, int], bytes], fps: float, clock: Clock
    ) -> None:
        self.viewers = 0
        self._encode = encode
        self._interval_s = 1 / fps
        self._clock = clock
        self._newest: FrameResult | None = None
        self._message = EncodedFrame(0, b"")
        self._due = float("-inf")
        self._outdated = asyncio.Event()
        """Set while something has changed since the message was encoded."""
        self._outdated.set()
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()

    def publish(self, result: FrameResult) -> None:
        """Offer a new result."""
        has_viewers = self.viewers > 0
        self._newest = result if has_viewers else None
        if has_viewers:
            self.notify()

    def notify(self) -> None:
        """Send a new message soon, since the state has changed."""
        self._set(self._outdated)

    def close(self) -> None:
        """End all waiting."""
        self._set(self._closing)
        self.notify()

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Bind to the running event loop."""
        with self._loop_lock:
            self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            with self._loop_lock:
                self._loop = None

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Count one more viewer."""
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1
            if self.viewers == 0:
                self._discard_frames()

    async def after(self, number: int) -> EncodedFrame:
        """Wait for a message newer than this number, and return the newest."""
        if number == self._message.number:
            await _wait_at_most(HEARTBEAT_S, self._outdated)
        await _wait_at_most(self._due - self._clock.monotonic(), self._closing)
        # Another client may have caused a new message during the wait; then the next is not due.
        is_outdated = self._outdated.is_set() or number == self._message.number
        if is_outdated and self._clock.monotonic() >= self._due:
            self._update()
        return self._message

    def _set(self, event: asyncio.Event) -> None:
        with self._loop_lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(event.set)

    def _update(self) -> None:
        self._due = self._clock.monotonic() + self._interval_s
        self._outdated.clear()
        content = self._encode(self._newest, self.viewers)
        self._message = EncodedFrame(self._message.number + 1, content)

    def _discard_frames(self) -> None:
        """Keep no picture without a viewer."""
        self._newest = None
        self._message = EncodedFrame(self._message.number, b"")
        self._outdated.set()


async def _wait_at_most(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
