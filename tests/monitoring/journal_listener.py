"""Receives records in journald's place, and prints them as JSON lines.

It needs its own mount namespace:

    unshare --map-root-user --mount python tests/monitoring/journal_listener.py PYTHON-CODE

The code runs in another process, whose standard error is the stream in JOURNAL_STREAM.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")


def fields(datagram: bytes) -> Iterator[tuple[str, str]]:
    """The fields of one entry (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/)."""
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        yield name.decode(), value.decode()


def main(code: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    SOCKET.parent.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(SOCKET))
    with tempfile.TemporaryFile() as stderr:
        status = os.fstat(stderr.fileno())
        stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        subprocess.run(
            [sys.executable, "-c", code], stderr=stderr, env=os.environ | stream, check=True
        )
        stderr.seek(0)
        print(json.dumps({"stderr": stderr.read().decode()}))
    listener.settimeout(0)
    try:
        while True:
            print(json.dumps(dict(fields(listener.recv(1 << 20)))))
    except BlockingIOError:
        listener.close()


if __name__ == "__main__":
    main(sys.argv[1])
