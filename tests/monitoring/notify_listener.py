"""The notify socket, in systemd's place (sd_notify(3))."""

import contextlib
import socket
from pathlib import Path

from running import PATIENCE


class Systemd:
    """Receives the notifications of a service."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._lines: list[str] = []

    def received(self) -> list[str]:
        """Lines since the last call."""
        self._socket.settimeout(0)
        lines: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines += self._receive()
        return lines

    def all_received(self) -> list[str]:
        """All lines so far: a status is sent once, perhaps with a line that was waited for."""
        self.received()
        return self._lines

    def wait_for(self, line: str) -> list[str]:
        """All lines up to this one."""
        self._socket.settimeout(PATIENCE)
        lines: list[str] = []
        while line not in lines:
            lines += self._receive()
        return lines

    def is_silent_for(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> list[str]:
        """The lines of the next notification."""
        lines = self._socket.recv(4096).decode().splitlines()
        self._lines += lines
        return lines
