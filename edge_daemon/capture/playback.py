"""A file in a camera's place: played at its own pace, again and again."""

import dataclasses
import time
from collections.abc import Callable
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon.capture.base import Picture, Source
from edge_daemon.errors import SourceError

SLACK: Final = 0.02
"""Seconds by which a picture may be late and is shown all the same."""

MOST_LATE: Final = 1.0
"""Seconds of arrears that are given up: a machine too slow for a film's pace shows it slower."""


class Looped:
    """A live source made of one that has an end."""

    live = True

    def __init__(
        self, source: Source, clock: Clock, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.name = source.name
        self._source = source
        self._clock = clock
        self._sleep = sleep

    def open(self) -> "LoopedReader":
        return LoopedReader(self._source, self._clock, self._sleep)


class LoopedReader:
    """Shows each picture at its time, and leaves out those whose time went by unasked."""

    def __init__(self, source: Source, clock: Clock, sleep: Callable[[float], None]) -> None:
        self._source = source
        self._clock = clock
        self._sleep = sleep
        self._reader = source.open()
        self._began = clock.monotonic()
        self._time = 0.0
        self._gap = 0.0

    def read(self) -> Picture:
        """Wait for the next picture's time.

        Raises:
            SourceError: the file is damaged.
        """
        picture = self._next()
        while SLACK < self._late < MOST_LATE:
            picture = self._next()
        if self._late >= MOST_LATE:
            self._began += self._late
        self._sleep(max(0.0, -self._late))
        return dataclasses.replace(picture, stream_time=None)

    def close(self) -> None:
        self._reader.close()

    @property
    def _late(self) -> float:
        """Seconds since the time of the picture read last; negative while that is still to come."""
        return self._clock.monotonic() - self._began - self._time

    def _next(self) -> Picture:
        picture = self._reader.read() or self._first_again()
        time_in_film = picture.stream_time or 0.0
        self._gap = max(0.0, time_in_film - self._time)
        self._time = time_in_film
        return picture

    def _first_again(self) -> Picture:
        self._reader.close()
        self._reader = self._source.open()
        # The last picture is shown for as long as the one before it.
        self._began = max(self._began + self._time + self._gap, self._clock.monotonic())
        self._time = 0.0
        if (picture := self._reader.read()) is None:
            raise SourceError(f"{self._source.name}: has no pictures")
        return picture
