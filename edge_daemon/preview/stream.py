"""Where watchers wait for what is new. It is made once for all of them, and only when one waits.

A watcher asks for each message, and gets the newest that there is. So a slow one misses frames, one
that is gone holds nothing, and without any no picture is kept or encoded.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from edge_daemon._lib.clock import Clock
from edge_daemon.records import FrameResult

HEARTBEAT: Final = 1.0
"""Seconds until a watcher is told how things are though nothing is new."""


class Message(NamedTuple):
    """What was made for all who watch."""

    number: int
    """Counts them."""
    content: bytes


class Stream:
    """The step that lets watchers see results, and what they wait at.

    The step is called in the pipeline's thread, and never waits. Everything else belongs to the
    event loop's thread, unless it says otherwise.

    Args:
        describe: makes a message of the newest result and the number of watchers.
        fps: messages a second at most.
        clock: where the time is read.
    """

    def __init__(
        self, describe: Callable[[FrameResult | None, int], bytes], fps: float, clock: Clock
    ) -> None:
        self.watchers = 0
        self._describe = describe
        self._interval = 1 / fps
        self._clock = clock
        self._newest: FrameResult | None = None
        self._message = Message(0, b"")
        self._due = float("-inf")
        self._news = asyncio.Event()
        """Set while something is so that the message does not tell."""
        self._news.set()
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._binding = threading.Lock()

    def __call__(self, result: FrameResult) -> FrameResult:
        watched = self.watchers > 0
        self._newest = result if watched else None
        if watched:
            self.tell()
        return result

    def tell(self) -> None:
        """Something is so that was not before. May be called in any thread."""
        self._set(self._news)

    def close(self) -> None:
        """Let nobody wait any longer. May be called in any thread."""
        self._set(self._closing)
        self.tell()

    @contextmanager
    def bound(self) -> Iterator[None]:
        """While the event loop runs: without one there is nobody to tell."""
        with self._binding:
            self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            with self._binding:
                self._loop = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While one more watcher is there."""
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1
            if self.watchers == 0:
                self._forget()

    async def after(self, number: int) -> Message:
        """The newest message, as soon as there is a later one than that with this number."""
        if number == self._message.number:
            await _set_within(HEARTBEAT, self._news)
        await _set_within(self._due - self._clock.monotonic(), self._closing)
        # Another watcher may have had one made meanwhile; then the next is not due.
        outdated = self._news.is_set() or number == self._message.number
        if outdated and self._clock.monotonic() >= self._due:
            self._make()
        return self._message

    def _set(self, event: asyncio.Event) -> None:
        with self._binding:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(event.set)

    def _make(self) -> None:
        self._due = self._clock.monotonic() + self._interval
        self._news.clear()
        content = self._describe(self._newest, self.watchers)
        self._message = Message(self._message.number + 1, content)

    def _forget(self) -> None:
        """Keep no picture that nobody watches."""
        self._newest = None
        self._message = Message(self._message.number, b"")
        self._news.set()


async def _set_within(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, but no longer than that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
