"""A daemon with many events that can be killed and restarted, and its log over all restarts."""

import json
import random
import re
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from drawing import draw_scene
from publishing.broker import Subscriber
from running import Camera, RunningProgram, eventually

EMPTY = draw_scene()
SCENES = [draw_scene((x, 60, 120)) for x in (20, 100, 180)]

MANY_EVENTS = (
    "events.appear_after=0",
    "events.dwell=0",
    "events.margin=0",
    "tracking.max_age=0",
    "smoothing.time_constant=0",
)

EVENT = re.compile(r" event event_id=(\S+) kind=\S+ track_id=\d+ emotion=\S+ sequence=(\d+)$")


def events_in(lines: Iterable[str]) -> dict[str, int]:
    """Sequence numbers by event ID, of the events in a daemon's log lines."""
    found = [match for match in map(EVENT.search, lines) if match]
    return {match[1]: int(match[2]) for match in found}


class Device:
    """The daemon `porch`, over all its restarts.

    Args:
        state: below which its state folder is made.
        source: what it watches.
        port: of the broker.
        host: of the broker.
        settings: more of them, each as KEY=VALUE.
        inside: a command inside of which it runs.
    """

    def __init__(
        self,
        state: Path,
        source: str,
        port: int,
        *,
        host: str = "127.0.0.1",
        settings: Sequence[str] = (),
        inside: Sequence[str] = (),
        name: str = "porch",
    ) -> None:
        broker = (f"mqtt.host={host}", f"mqtt.port={port}", f"device_id={name}")
        self._words = ["--source", source, "--detector", "haar"]
        for setting in (*MANY_EVENTS, *broker, *settings):
            self._words += ["--set", setting]
        self._state = state
        self._inside = inside
        self._runs: list[RunningProgram] = []
        self.start()

    def start(self) -> None:
        self._runs.append(RunningProgram(self._state, *self._words, inside=self._inside))

    def wait_for_events(self, count: int) -> None:
        """Wait until this many more events are logged."""
        expected = len(self.logged) + count
        eventually(lambda: len(self.logged) >= expected)

    def wait_for(self, words: str) -> None:
        """Wait for a line with these words from the current process."""
        self._runs[-1].wait_for(words)

    def end(self, number: signal.Signals) -> int:
        """Send a signal that ends it; return the exit code."""
        return self.end_timed(number)[0]

    def end_timed(self, number: signal.Signals) -> tuple[int, float]:
        """Send a signal that ends it; return the exit code, and the seconds with a free CPU."""
        return self._runs[-1].end(number)

    def end_delivered(self, subscriber: Subscriber) -> dict[str, int]:
        """End it by SIGTERM; return what it has logged, once all of that has arrived.

        At its end it has little time to deliver. The next start delivers the rest.
        """
        assert self.end(signal.SIGTERM) == 0
        logged = self.logged
        if not logged.keys() <= received(subscriber).keys():
            self.start()
            eventually(lambda: logged.keys() <= received(subscriber).keys())
            self.end(signal.SIGKILL)
        return logged

    @property
    def lines(self) -> list[str]:
        """All lines on standard error, of all processes."""
        return [line for run in self._runs for line in list(run.err)]

    def lines_with(self, words: str) -> list[str]:
        """Its lines with these words."""
        return [line for line in self.lines if words in line]

    @property
    def logged(self) -> dict[str, int]:
        """Sequence numbers by event ID."""
        return events_in(self.lines)

    @property
    def running(self) -> bool:
        return self._runs[-1].process.poll() is None


@contextmanager
def device(state: Path, source: str, port: int, **more: object) -> Iterator[Device]:
    started = Device(state, source, port, **more)  # type: ignore[arg-type]
    try:
        yield started
    finally:
        if started.running:
            started.end(signal.SIGKILL)


@contextmanager
def faces_that_come_and_go(stage: Camera, interval: float = 0.2) -> Iterator[None]:
    """Alternate between a face at a random place and an empty scene; end with the empty scene."""
    leaving = threading.Event()

    def play() -> None:
        while not leaving.wait(interval):
            stage.show(random.choice([*SCENES, EMPTY]))
        stage.show(EMPTY)

    player = threading.Thread(target=play)
    player.start()
    try:
        yield
    finally:
        leaving.set()
        player.join()


def received(subscriber: Subscriber) -> dict[str, int]:
    """Sequence numbers by event ID, in the order of first arrival."""
    events: dict[str, int] = {}
    for payload in subscriber.payloads("event"):
        event = json.loads(payload)
        assert events.setdefault(event["event_id"], event["sequence"]) == event["sequence"]
    return events
