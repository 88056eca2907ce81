"""The example flow in a real Node-RED, with a real broker."""

import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands.watch.test_command import publish
from payloads import encoded, event, health
from publishing.broker import Mosquitto, subscribed
from running import PATIENCE, free_port

from edge_daemon.records import EventKind, SourceState

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "examples" / "node-red" / "flow.json"

INSTALLED = ROOT / ".venv-node-red" / "node_modules" / ".bin"
"""Where `npm install --prefix .venv-node-red node-red@3` puts the program."""

START_LIMIT_S = 90.0


def program() -> str:
    path = f"{INSTALLED}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which("node-red", path=path)
    if found is None:
        pytest.skip("needs Node-RED (npm install --prefix .venv-node-red node-red@3)")
    return found


class NodeRed:
    """A running Node-RED, and what its debug nodes print."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.lines: list[str] = []
        self._port = port
        self._arrived = threading.Condition()
        self._process = process
        self.reader = threading.Thread(target=self._collect, daemon=True)
        self.reader.start()

    def wait_for(self, words: str, seconds: float = PATIENCE) -> None:
        with self._arrived:
            found = self._arrived.wait_for(lambda: self.count(words) > 0, seconds)
        assert found, "\n".join(self.lines)

    def count(self, words: str) -> int:
        return sum(words in line for line in self.lines)

    def inject(self, node: str) -> None:
        """Press the button of an inject node."""
        url = f"http://127.0.0.1:{self._port}/inject/{node}"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=PATIENCE):
            pass

    def _collect(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._arrived:
                    self.lines.append(line.rstrip())
                    self._arrived.notify_all()


def local_flow(port: int) -> str:
    """The example with this broker; its debug nodes print to standard output, too."""
    nodes = json.loads(FLOW.read_text())
    for node in nodes:
        if node["type"] == "mqtt-broker":
            node |= {"broker": "127.0.0.1", "port": str(port)}
        if node["type"] == "debug":
            node["console"] = True
    return json.dumps(nodes)


@contextmanager
def node_red(folder: Path, broker_port: int) -> Iterator[NodeRed]:
    """Node-RED with the flow."""
    (folder / "flow.json").write_text(local_flow(broker_port))
    settings = {"flowFile": "flow.json", "userDir": str(folder), "telemetry": {"enabled": False}}
    (folder / "settings.js").write_text(f"module.exports = {json.dumps(settings)};\n")
    port = free_port()
    command = [program(), "--settings", folder / "settings.js", "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
    )
    running = NodeRed(process, port)
    try:
        yield running
    finally:
        process.kill()
        process.wait(PATIENCE)
        running.reader.join(PATIENCE)


def test_flow_handles_events_health_and_pause(broker: Mosquitto, tmp_path: Path) -> None:
    lost = encoded(health(SourceState.LOST))
    publish(broker.port, "edge-daemon/hall/health", lost, retain=True)
    with (
        node_red(tmp_path, broker.port) as running,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
    ):
        # The retained message arrives once the flow has subscribed.
        running.wait_for("[debug:camera lost] edge-daemon/hall/health", START_LIMIT_S)
        one, two = encoded(event(1)), encoded(event(2, EventKind.LEFT, duration=73.0))
        publish(broker.port, "edge-daemon/hall/event", one, one, two)
        running.wait_for("[debug:left] 73")
        assert running.count("[debug:appeared]") == 1
        running.inject("edpause")
        subscriber.wait_for("set/paused", b"ON")
        running.inject("edresume")
        subscriber.wait_for("set/paused", b"ON", b"OFF")
