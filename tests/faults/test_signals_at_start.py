"""Signals while the program starts, whatever it is at: SIGTERM and Ctrl-C end it soon and in good
order, SIGHUP has its settings reloaded.

A hook in the program sends the signal. It counts audit events (PEP 578: modules imported, files
opened, threads started, sockets connected) from the first module of the program to its first
event on MQTT, and strikes at one of them; so the moments are the same on a slow machine.
"""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from drawing import draw_scene
from publishing.broker import Mosquitto, subscribed
from publishing.fixtures import NO_LIMITS
from running import (
    STOP_LIMIT,
    Camera,
    RunningProgram,
    broker_at,
    camera,
    eventually,
    running,
)

from edge_daemon._lib.clock import SystemClock
from edge_daemon.publishing.event_queue import EventQueue
from edge_daemon.publishing.event_writer import EventWriter

pytestmark = pytest.mark.timeout(600)

HOOK = """
import os, signal, sys

at, number, seen = int(os.environ["FAULT_AT"]), int(os.environ["FAULT_SIGNAL"]), 0
count = open(os.environ["FAULT_COUNT"], "wb", buffering=0)

def strike(event, arguments):
    global seen
    if seen or (event == "import" and arguments[0] == "edge_daemon.cli"):
        seen += 1
        os.pwrite(count.fileno(), b"%d" % seen, 0)
        if seen == at:
            os.write(2, b"signal\\n")
            os.kill(os.getpid(), number)

sys.addaudithook(strike)
"""

IMPORTING, RUNNING = 8, 12
"""Numbers of moments before and after the modules are loaded."""

LATE = 110
"""Audit events from the loading of the models to the first MQTT event, of 6,000 in total."""

MIN_HIT_RATIO = 0.75
"""Minimum share of the moments that a start reaches: thread interleavings differ between starts."""

NEVER = 0


@pytest.fixture
def live() -> Iterator[Camera]:
    with camera(draw_scene((60, 60, 120))) as server:
        yield server


class Starts:
    """Starts the program, each time as a new device with its own state folder."""

    def __init__(self, folder: Path, source: str, port: int) -> None:
        (folder / "sitecustomize.py").write_text(HOOK)
        self._folder = folder
        self._settings = (
            *("--source", source, "--detector", "haar"),
            *broker_at(port),
            *("--set", "events.appear_after=0"),
        )

    def struck(
        self, device: str, at: int, number: signal.Signals
    ) -> AbstractContextManager[RunningProgram]:
        """A program that gets a signal at that moment."""
        path = f"{self._folder}:{Path(__file__).parents[2]}"
        return running(
            self._folder / device,
            *self._settings,
            *("--set", f"device_id={device}", "--set", f"state_dir={self._folder / device}"),
            PYTHONPATH=path,
            FAULT_AT=str(at),
            FAULT_SIGNAL=str(int(number)),
            FAULT_COUNT=str(self._folder / f"count-{device}"),
        )

    def moments(self) -> list[int]:
        """Audit events that are spread over a start, until its first MQTT event."""
        with self.struck("whole", NEVER, signal.SIGTERM) as whole:
            whole.wait_for(" kind=appeared")
            last = int((self._folder / "count-whole").read_text())
            code, _ = whole.end(signal.SIGTERM)
        assert code == 0
        return spread(1, last - LATE, IMPORTING) + spread(last - LATE, last, RUNNING)

    def ends_well(self, device: str, at: int, number: signal.Signals) -> bool:
        """False if the start is complete before that moment."""
        with self.struck(device, at, number) as program:
            eventually(lambda: program.has_line("signal") or program.has_line("kind=appeared"))
            if not program.has_line("signal"):
                return False
            code, seconds = program.wait_for_end()
        log = program.err
        assert code == 0, log
        assert seconds < STOP_LIMIT, log
        assert not [line for line in log if "Traceback" in line or "ERROR" in line], log
        path = self._folder / device / f"events-{device}.sqlite"
        queue = EventQueue(SystemClock(), lambda: None)
        writer = EventWriter(queue, path, NO_LIMITS, SystemClock())
        assert queue.status().durable
        writer.close()
        return True

    def reads_again(self, device: str, at: int) -> bool:
        """Assert a reload after SIGHUP; false if the start is complete before that moment."""
        with self.struck(device, at, signal.SIGHUP) as program:
            program.wait_for("kind=appeared")
            if struck := program.has_line("signal"):
                program.wait_for("settings reloaded")
            code, _ = program.end(signal.SIGTERM)
        assert code == 0, program.err
        return struck


def device_of(topic: str) -> str:
    return topic.split("/")[1]


def spread(first: int, last: int, count: int) -> list[int]:
    return [first + place * (last - first) // count for place in range(count)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_at_any_moment_of_start_stops_cleanly(
    tmp_path: Path, live: Camera, number: signal.Signals
) -> None:
    with (
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon") as listening,
        ThreadPoolExecutor(2) as pool,
    ):
        starts = Starts(tmp_path, live.url, broker.port)
        chosen = starts.moments()
        ended = pool.map(lambda at: starts.ends_well(f"at-{at}", at, number), chosen)
        hit = {f"at-{at}" for at, well in zip(chosen, ended, strict=True) if well}
        assert len(hit) >= MIN_HIT_RATIO * len(chosen)

        def availability() -> set[bytes]:
            """The last one of each device."""
            last = {
                message.topic: message.payload
                for message in listening.messages
                if "availability" in message.topic and device_of(message.topic) in hit
            }
            return set(last.values())

        # On a busy machine it comes by the will, some seconds later.
        eventually(lambda: availability() == {b"offline"})


def test_sighup_at_any_moment_of_start_reloads_settings(tmp_path: Path, live: Camera) -> None:
    with Mosquitto(tmp_path) as broker, ThreadPoolExecutor(2) as pool:
        starts = Starts(tmp_path, live.url, broker.port)
        chosen = starts.moments()
        hit = list(pool.map(lambda at: starts.reads_again(f"at-{at}", at), chosen))
    assert hit.count(True) >= MIN_HIT_RATIO * len(chosen)
