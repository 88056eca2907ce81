"""A real Home Assistant without a user interface, and a client of its API.

It runs in an environment of its own: `scripts/check homeassistant` creates it.
"""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import pytest
from running import free_port
from websockets.sync.client import ClientConnection, connect

ROOT: Final = Path(__file__).parents[2]
ENVIRONMENT: Final = Path(os.environ.get("HOMEASSISTANT", ROOT / ".venv-homeassistant"))

START_TIMEOUT_S: Final = 120.0
TIMEOUT_S: Final = 30.0

CONFIGURATION: Final = """\
homeassistant:
  name: Test
  packages: !include_dir_named packages
http:
  server_host: 127.0.0.1
  server_port: {port}
api:
config:
logbook:
automation: !include automations.yaml
logger:
  default: warning
"""

UNRELATED_LOGGERS: Final = (
    "[homeassistant.bootstrap]",  # --skip-pip
    "[aiohttp_fast_zlib]",
    "[homeassistant.components.camera.img_util]",
)
"""Loggers that warn of missing libraries, which nothing here uses."""

Json = dict[str, Any]


def program() -> Path:
    """The program `hass`; the test is skipped without it."""
    found = ENVIRONMENT / "bin" / "hass"
    if not found.is_file():
        pytest.skip(f"needs Home Assistant in {ENVIRONMENT}: run 'scripts/check homeassistant'")
    return found


class HomeAssistant:
    """Home Assistant with its own configuration, on a free port.

    Args:
        folder: of its configuration; packages and blueprints may already be in it.
    """

    def __init__(self, folder: Path) -> None:
        self._hass = program()
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "packages").mkdir(parents=True, exist_ok=True)
        (folder / "automations.yaml").write_text("[]")
        (folder / "configuration.yaml").write_text(CONFIGURATION.format(port=self.port))
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""
        self._socket: ClientConnection | None = None
        self._resources = ExitStack()
        self._command_id = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self._hass, "--config", self.folder, "--skip-pip"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._token = self._logged_in()
            self._open_socket()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def problems(self) -> list[str]:
        """Warnings and errors in the log, except those about the environment of this test."""
        log = (self.folder / "home-assistant.log").read_text(encoding="utf-8")
        return [
            line
            for line in log.splitlines()
            if re.search(r" (WARNING|ERROR|CRITICAL) ", line)
            and not any(logger in line for logger in UNRELATED_LOGGERS)
        ]

    def request(self, path: str, body: object = None, method: str | None = None) -> Any:
        """Call the REST API; an error of it fails the test."""
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            pytest.fail(f"{path}: {error} {error.read()!r}")

    def command(self, kind: str, **fields: object) -> Any:
        """Call the WebSocket API."""
        assert self._socket is not None
        self._command_id += 1
        self._socket.send(json.dumps({"id": self._command_id, "type": kind} | fields))
        while True:
            answer = json.loads(self._socket.recv(TIMEOUT_S))
            if answer["id"] == self._command_id and answer["type"] == "result":
                assert answer["success"], answer
                return answer["result"]

    def configure_mqtt(self, port: int) -> None:
        """Set up the MQTT integration as a user does, through its config flow."""
        path = "/api/config/config_entries/flow"
        step = self.request(path, {"handler": "mqtt"})
        assert step["type"] == "form", step
        step = self.request(f"{path}/{step['flow_id']}", {"broker": "127.0.0.1", "port": port})
        assert step["type"] == "create_entry", step

    def states(self) -> dict[str, Json]:
        """States by entity ID."""
        return {state["entity_id"]: state for state in self.request("/api/states")}

    def wait_for_state(self, entity_id: str, *, state: str) -> Json:
        self.wait_until(lambda: self.states().get(entity_id, {}).get("state") == state)
        return self.states()[entity_id]

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, self.problems()
            time.sleep(0.2)

    def call(self, action: str, **data: object) -> None:
        """Perform an action, such as `switch.turn_on`."""
        self.request(f"/api/services/{action.replace('.', '/')}", data)

    def _logged_in(self) -> str:
        """Create the first user; a token for the API."""
        user = {
            "client_id": f"{self.url}/",
            "name": "Test",
            "username": "test",
            "password": "test-only",
            "language": "en",
        }
        self._wait_for_start()
        code = self.request("/api/onboarding/users", user)["auth_code"]
        form = {"grant_type": "authorization_code", "code": code, "client_id": f"{self.url}/"}
        request = urllib.request.Request(
            f"{self.url}/auth/token", urllib.parse.urlencode(form).encode()
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return json.load(response)["access_token"]

    def _wait_for_start(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            assert self._process is not None
            assert self._process.poll() is None, "Home Assistant did not start"
            try:
                urllib.request.urlopen(f"{self.url}/api/onboarding", timeout=TIMEOUT_S).close()
            except OSError:
                assert time.monotonic() < deadline, "Home Assistant did not start in time"
                time.sleep(0.5)
            else:
                return

    def _open_socket(self) -> None:
        address = f"ws://127.0.0.1:{self.port}/api/websocket"
        self._socket = self._resources.enter_context(connect(address, max_size=None))
        assert json.loads(self._socket.recv(TIMEOUT_S))["type"] == "auth_required"
        self._socket.send(json.dumps({"type": "auth", "access_token": self._token}))
        assert json.loads(self._socket.recv(TIMEOUT_S))["type"] == "auth_ok"
