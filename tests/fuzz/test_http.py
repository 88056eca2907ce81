"""Generated requests to the preview and the metrics, which no browser sends."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.request import urlopen

import pytest
from drawing import draw_scene
from fuzz.generated import many
from hypothesis import example, given
from hypothesis import strategies as st
from preview.serving import HANDSHAKE
from running import (
    PATIENCE,
    RunningProgram,
    camera,
    free_port,
    running,
    send_until_closed,
)

SERVED = {"preview": free_port(), "metrics": free_port()}
PATHS = {"preview": "session", "metrics": "metrics"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProgram]:
    """A daemon that serves both locally."""
    words = [word for name, port in SERVED.items() for word in (f"--{name}", f"127.0.0.1:{port}")]
    with (
        camera(draw_scene((60, 60, 120))) as live,
        running(
            tmp_path_factory.mktemp("served"), "--source", live.url, "--detector", "haar", *words
        ) as started,
    ):
        started.wait_for("preview at")
        started.wait_for("serving metrics")
        yield started


def send(port: int, content: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        send_until_closed(connection, content)


class Filler(bytes):
    """A long part of a request whose representation in a failure's report is short."""

    def __repr__(self) -> str:
        return f"Filler({bytes(self[:4])!r}... of {len(self)} bytes)"


@dataclass(frozen=True)
class Request:
    """A request's parts, each of which may be malformed."""

    method: bytes
    path: bytes
    version: bytes
    fields: list[bytes]
    body: bytes

    def __bytes__(self) -> bytes:
        first = b" ".join([self.method, self.path, self.version])
        return b"\r\n".join([first, *self.fields, b"", self.body])


methods = st.sampled_from(
    [b"GET", b"POST", b"HEAD", b"get", b"\xff", Filler(b"G" * 70_000), b"", b"PRI"]
)
paths = st.sampled_from(
    [b"/", b"/metrics", b"/session", b"/live", b"*", b"/%zz", b"/%00", b"//", b"http://[", b"/\xff"]
) | st.binary(max_size=12)
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"HTTP/2.0", b"HTTP/x", b""])
headers = st.lists(
    st.sampled_from(
        [
            *(b"Host: localhost", b"Host: \xff", b"Host: [::1", b"Host: a\x00b", b"Host:"),
            *(b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"no colon", b": x"),
            *(
                b"Transfer-Encoding: chunked",
                b"Expect: 100-continue",
                b" folded",
                b"Cookie: a=" * 9,
            ),
            *(
                b"Origin: http://[",
                b"Origin: null",
                Filler(b"X: " + b"y" * 100_000),
                b"Connection: Upgrade",
            ),
            *(b"Accept-Encoding: gzip;q=nan", b"Accept: \xff;q=x", b"Authorization: Basic \xff"),
        ]
    ),
    max_size=5,
)
requests = st.builds(Request, methods, paths, versions, headers, st.binary(max_size=30))


def assert_serves(program: RunningProgram, name: str) -> None:
    """The daemon responds, and earlier requests caused no traceback."""
    with urlopen(f"http://127.0.0.1:{SERVED[name]}/{PATHS[name]}", timeout=PATIENCE) as answer:
        assert answer.status == 200
    assert program.process.poll() is None
    assert not [line for line in program.err if "Traceback" in line or "Error" in line]


@many(100)
@given(name=st.sampled_from(sorted(SERVED)), request=requests | st.binary(min_size=1, max_size=80))
def test_generated_request_leaves_the_server_responding(
    program: RunningProgram, name: str, request: Request | bytes
) -> None:
    send(SERVED[name], bytes(request))
    assert_serves(program, name)


@many(40)
@given(frames=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4))
@example(frames=[b"\x81\xff" + b"\xff" * 8])
@example(frames=[b"\x88\x80\0\0\0\0"])
@example(frames=[b"\x82\x84\0\0\0\0next"])
def test_generated_websocket_frames_leave_the_server_responding(
    program: RunningProgram, frames: list[bytes]
) -> None:
    named = HANDSHAKE | {"Host": "localhost"}
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    send(SERVED["preview"], f"GET /live HTTP/1.1\r\n{fields}\r\n".encode() + b"".join(frames))
    assert_serves(program, "preview")
