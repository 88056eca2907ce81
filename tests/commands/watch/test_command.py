"""`edge-daemon watch` as a process, against a real broker."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Program, clean_environment
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from payloads import encoded, event, faces, health, scored
from publishing.broker import Mosquitto, end_client
from running import PATIENCE, STOP_LIMIT, RunningProgram, free_port, running

from edge_daemon import cli
from edge_daemon.commands import watch


def publish(port: int, topic: str, *payloads: bytes, retain: bool = False) -> None:
    """Returns when the broker has them all."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for payload in payloads:
        client.publish(topic, payload, 1, retain).wait_for_publish(PATIENCE)
    end_client(client)


def watch_words(port: int, *words: object) -> tuple[object, ...]:
    return ("watch", *words, "--host", "127.0.0.1", "--port", port)


def printed(program: RunningProgram) -> list[tuple[str, str, object]]:
    lines = map(json.loads, program.out)
    return [(line["device"], line["kind"], line["payload"]) for line in lines]


@pytest.fixture
def lines(broker: Mosquitto, tmp_path: Path) -> Iterator[RunningProgram]:
    """`watch --json`, which has subscribed."""
    publish(broker.port, "edge-daemon/hall/availability", b"online", retain=True)
    with running(tmp_path, *watch_words(broker.port, "--json")) as program:
        program.wait_for('"online"')
        yield program


def test_watch_json_prints_a_line_per_message_and_sigint_exits_0(
    broker: Mosquitto, lines: RunningProgram
) -> None:
    sent = faces(scored(1, "happy", 0.8))
    publish(broker.port, "edge-daemon/hall/faces", encoded(sent))
    lines.wait_for('"faces"')
    code, seconds = lines.end(signal.SIGINT)
    assert json.loads(lines.out[0]) == {
        "topic": "edge-daemon/hall/availability",
        "device": "hall",
        "kind": "availability",
        "retained": True,
        "payload": "online",
    }
    assert printed(lines)[1] == ("hall", "faces", json.loads(encoded(sent)))
    assert (code, lines.err) == (0, [])
    assert seconds < STOP_LIMIT


def test_watch_sigterm_exits_0(lines: RunningProgram) -> None:
    assert lines.end(signal.SIGTERM)[0] == 0


def test_watch_problems_are_printed_on_stderr(broker: Mosquitto, lines: RunningProgram) -> None:
    publish(broker.port, "edge-daemon/hall/faces", b"{", b"{")
    publish(broker.port, "edge-daemon/hall/event", *map(encoded, map(event, (1, 2, 2, 4))))
    lines.wait_for('"sequence":4')
    lines.end(signal.SIGTERM)
    assert [payload["sequence"] for _, kind, payload in printed(lines) if kind == "event"] == [
        *(1, 2, 4)
    ]
    rejected, gap, summary = lines.err
    assert rejected.startswith("edge-daemon: hall: faces rejected: not JSON")
    assert gap == "edge-daemon: hall: event 3 missing"
    assert summary == ("edge-daemon: messages rejected: 2, duplicate events: 1, missing events: 1")


def test_watch_device_names_select_devices(broker: Mosquitto, tmp_path: Path) -> None:
    for name in ("hall", "porch", "gate"):
        publish(broker.port, f"edge-daemon/{name}/availability", b"online", retain=True)
    with running(tmp_path, *watch_words(broker.port, "--json", "gate", "hall")) as program:
        program.wait_for('"online"', count=2)
        publish(broker.port, "edge-daemon/porch/health", encoded(health()))
        publish(broker.port, "edge-daemon/gate/health", encoded(health()))
        program.wait_for('"health"')
        program.end(signal.SIGTERM)
    assert {device for device, *_ in printed(program)} == {"gate", "hall"}


def test_watch_uses_base_topic_and_broker_of_the_settings(
    broker: Mosquitto, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nbase_topic = "a/b"\n')
    publish(broker.port, "a/b/hall/availability", b"online", retain=True)
    with running(tmp_path, "watch", "--json", "--config", file) as program:
        program.wait_for('"a/b/hall/availability"')


def test_watch_broker_restarted_subscribes_again(broker: Mosquitto, lines: RunningProgram) -> None:
    broker.stop()
    lines.wait_for("retrying")
    broker.start()
    lines.wait_for("connected again after")
    publish(broker.port, "edge-daemon/hall/event", encoded(event(1)))
    lines.wait_for('"sequence":1')
    assert sum("retrying" in line for line in lines.err) == 1


@pytest.mark.parametrize("quiet", [True, False])
def test_watch_closed_stdout_exits_cleanly(
    broker: Mosquitto, tmp_path: Path, *, quiet: bool
) -> None:
    publish(broker.port, "edge-daemon/hall/availability", b"online", retain=True)
    with subprocess.Popen(
        [sys.executable, "-m", "edge_daemon", *map(str, watch_words(broker.port, "--json"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(tmp_path),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        if not quiet:
            publish(broker.port, "edge-daemon/hall/health", encoded(health()))
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""


def test_watch_absent_broker_prints_one_line_and_exits_1(program: Program) -> None:
    port = free_port()
    done = program(*watch_words(port, "--json"))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"127.0.0.1:{port}: Connection refused; " in line


def test_watch_invalid_host_prints_one_line_and_exits_1(program: Program) -> None:
    done = program("watch", "--json", "--host", "a..b")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge-daemon: broker a..b:1883: ")


def test_watch_refused_login_prints_one_line_and_exits_1(program: Program, tmp_path: Path) -> None:
    strict = Mosquitto(tmp_path, passwords={"me": "right"})
    strict.start()
    try:
        done = program(*watch_words(strict.port, "--json", "--set", "mqtt.username=me"))
    finally:
        strict.stop()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "login refused: Not authorized; check mqtt.username" in line


def test_watch_invalid_device_id_prints_one_line_and_exits_2(program: Program) -> None:
    done = program("watch", "--json", "hall/+")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge-daemon: DEVICE: ")
    assert "(got 'hall/+')" in line


def test_watch_without_terminal_or_rich_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broker: Mosquitto
) -> None:
    monkeypatch.setattr(watch.signal, "signal", lambda *_: None)
    words = [str(word) for word in watch_words(broker.port)]
    assert cli.main(words) == 2
    assert "--json" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "rich", None)
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'edge-daemon[watch]'" in line


class Terminal:
    """A pseudo-terminal that runs `watch`, and its output."""

    def __init__(self, state: Path, *words: object) -> None:
        self._output = ""
        self._changed = threading.Condition()
        self._mine, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_daemon", *map(str, words)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=clean_environment(state) | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str) -> None:
        with self._changed:
            found = self._changed.wait_for(lambda: re.search(pattern, self._output), PATIENCE)
        if not found:  # else the process would outlive the test
            self.process.kill()
        assert found, self._output[-3000:]

    def end(self, number: signal.Signals) -> str:
        """Send a signal; return all output."""
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE) == 0
        self._reader.join(PATIENCE)
        os.close(self._mine)
        return self._output

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._mine, 65536)
            except OSError:  # the other end is closed
                return
            with self._changed:
                self._output += data.decode(errors="replace")
                self._changed.notify_all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_table_updates_and_restores_the_terminal(
    broker: Mosquitto, tmp_path: Path, number: signal.Signals
) -> None:
    publish(broker.port, "edge-daemon/hall/availability", b"online", retain=True)
    terminal = Terminal(tmp_path, *watch_words(broker.port))
    terminal.wait_for("hall.*online")
    publish(broker.port, "edge-daemon/hall/faces", encoded(faces(scored(7, "surprise", 0.62))))
    terminal.wait_for("#7.*surprise.*62")
    publish(broker.port, "edge-daemon/hall/event", encoded(event(1)))
    terminal.wait_for("session: 1 visit,")
    publish(broker.port, "edge-daemon/hall/faces", encoded(faces(scored(7, "surprise", 0.62))))
    publish(broker.port, "edge-daemon/hall/faces", encoded(faces(scored(7, "surprise", 0.62))))
    terminal.wait_for("surprise.*100 %.*█")
    broker.stop()
    terminal.wait_for("no connection")
    broker.start()
    terminal.wait_for("connected again after")
    output = terminal.end(number)
    assert output.endswith("\x1b[?25h\x1b[?1049l"), "the cursor and the former screen are back"
    assert "Traceback" not in output
