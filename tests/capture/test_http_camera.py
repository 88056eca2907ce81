import base64
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from capture.media import FRAMES, needs_ffmpeg, video
from drawing import draw_scene
from running import PATIENCE, eventually

from edge_daemon.capture import Reader, create_source, source_from_settings
from edge_daemon.capture.http_camera import (
    MAX_DAMAGED,
    MAX_FAILED_REQUESTS,
    HttpCamera,
    MjpegReader,
    SnapshotReader,
)
from edge_daemon.capture.http_client import HttpClient
from edge_daemon.capture.network import (
    OPEN_TIMEOUT_S,
    OPENING_SHARE,
    HttpStatusError,
    open_within,
)
from edge_daemon.config.loading import load_settings
from edge_daemon.config.settings import CaptureSettings
from edge_daemon.errors import SourceLost

SCENE = draw_scene((60, 60, 120))
JPEG = bytes(cv2.imencode(".jpg", SCENE)[1])
NONCE = "abc"

Answer = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Answers each request with the function of its path."""

    daemon_threads = True

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.connections = 0
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, *words: object) -> None:
        self.connections += 1
        super().process_request(*words)

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no error."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.answers[self.path](self)

    def reply(self, body: bytes, kind: str = "image/jpeg", status: int = 200, **more: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@contextlib.contextmanager
def serving(**answers: Answer) -> Iterator[Server]:
    with Server({f"/{name}": answer for name, answer in answers.items()}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def opened(url: str) -> Reader:
    source = create_source(url)
    assert isinstance(source, HttpCamera)
    assert source.is_live
    return source.open()


def reason(url: str) -> str:
    with pytest.raises(SourceLost) as loss:
        opened(url)
    return str(loss.value)


def shows_the_scene(reader: Reader) -> bool:
    picture = reader.read()
    return picture is not None and float(np.abs(picture.bgr.astype(int) - SCENE).mean()) < 4


def parts(
    *contents: bytes,
    boundary: str = "frame",
    announced: str | None = None,
    with_length: bool = True,
    end: bytes = b"\r\n",
) -> Answer:
    """A multipart response with these parts, which then ends."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        name = boundary if announced is None else announced
        handler.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={name}")
        handler.send_header("Connection", "close")
        handler.end_headers()
        for content in contents:
            length = f"Content-Length: {len(content)}\r\n" if with_length else ""
            head = f"--{boundary.strip('-')}\r\nContent-Type: image/jpeg\r\n{length}\r\n"
            handler.wfile.write(head.encode() + content + end)
        handler.wfile.write(f"--{boundary.strip('-')}--\r\n".encode())

    return answer


@pytest.mark.parametrize("with_length", [True, False], ids=["with length", "without length"])
@pytest.mark.parametrize("boundary", ["frame", "--frame", '"a frame"'])
def test_mjpeg_stream_of_any_style_gives_its_images(boundary: str, *, with_length: bool) -> None:
    answer = parts(*[JPEG] * 3, boundary=boundary.replace('"', ""), with_length=with_length)
    with serving(stream=answer) as server:
        reader = opened(f"{server.url}/stream")
        assert isinstance(reader, MjpegReader)
        assert shows_the_scene(reader)
        reader.skip()
        assert shows_the_scene(reader)
        with pytest.raises(SourceLost, match="the stream ended"):
            reader.read()
        reader.close()


@pytest.mark.parametrize("with_length", [True, False], ids=["with length", "without length"])
@pytest.mark.parametrize("announced", ["other", ""])
def test_mjpeg_stream_with_another_boundary_gives_its_images(
    announced: str, *, with_length: bool
) -> None:
    answer = parts(*[JPEG] * 3, announced=announced, with_length=with_length)
    with serving(stream=answer) as server, contextlib.closing(opened(f"{server.url}/stream")) as it:
        assert all(shows_the_scene(it) for _ in range(3))
        with pytest.raises(SourceLost):
            it.read()


def test_mjpeg_stream_without_line_breaks_gives_its_images() -> None:
    answer = parts(*[JPEG] * 3, with_length=False, end=b"")
    with serving(stream=answer) as server, contextlib.closing(opened(f"{server.url}/stream")) as it:
        assert all(shows_the_scene(it) for _ in range(3))


@pytest.mark.parametrize("with_length", [True, False], ids=["with length", "without length"])
def test_mjpeg_stream_with_damaged_parts_continues(*, with_length: bool) -> None:
    damaged = [b"", b"no image", JPEG[:2000], JPEG[500:], b""]
    answer = parts(JPEG, *damaged, JPEG, with_length=with_length)
    with serving(stream=answer) as server:
        reader = opened(f"{server.url}/stream")
        assert shows_the_scene(reader)
        assert shows_the_scene(reader)
        reader.close()


def test_mjpeg_length_of_too_many_digits_is_a_loss() -> None:
    def stream(handler: Handler) -> None:
        parts(JPEG)(handler)
        handler.wfile.write(b"--frame\r\nContent-Length: " + 5000 * b"9" + b"\r\n\r\n")

    with serving(stream=stream) as server, contextlib.closing(opened(f"{server.url}/stream")) as it:
        assert shows_the_scene(it)
        with pytest.raises(SourceLost):
            it.read()


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its header."""
    place = jpeg.index(b"\xff\xc0") + 5
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return jpeg[:place] + size + jpeg[place + 4 :]


def test_mjpeg_stream_with_damaged_sizes_skips_those_images() -> None:
    damaged = [with_size(JPEG, 320, 1000), with_size(JPEG, 330, 240), with_size(JPEG, 320, 65535)]
    with serving(stream=parts(JPEG, *damaged, JPEG, damaged[0], JPEG)) as server:
        reader = opened(f"{server.url}/stream")
        assert all(shows_the_scene(reader) for _ in range(3))
        with pytest.raises(SourceLost):
            reader.read()
        reader.close()


def test_mjpeg_stream_that_changes_its_size_continues() -> None:
    smaller = bytes(cv2.imencode(".jpg", cv2.resize(SCENE, (160, 120)))[1])
    with serving(stream=parts(JPEG, smaller, smaller, smaller)) as server:
        reader = opened(f"{server.url}/stream")
        pictures = [reader.read() for _ in range(3)]
        reader.close()
    assert [picture and picture.bgr.shape[:2] for picture in pictures] == [
        (240, 320),
        (120, 160),
        (120, 160),
    ]


def test_mjpeg_stream_of_damaged_parts_only_is_lost() -> None:
    with serving(stream=parts(*[JPEG[:2000]] * 30)) as server:
        reader = opened(f"{server.url}/stream")
        with pytest.raises(SourceLost, match=f"{MAX_DAMAGED} images in a row"):
            reader.read()
        reader.close()


def test_snapshots_come_over_one_kept_connection() -> None:
    with serving(snapshot=lambda handler: handler.reply(JPEG)) as server:
        reader = opened(f"{server.url}/snapshot")
        assert isinstance(reader, SnapshotReader)
        assert all(shows_the_scene(reader) for _ in range(5))
        reader.close()
        assert (len(server.requests), server.connections) == (5, 1)


def test_snapshots_of_a_server_that_closes_are_requested_again() -> None:
    def answer(handler: Handler) -> None:
        handler.reply(JPEG)
        handler.close_connection = True  # without a word in the header

    with serving(snapshot=answer) as server:
        reader = opened(f"{server.url}/snapshot")
        assert all(shows_the_scene(reader) for _ in range(3))
        reader.close()
        assert server.connections == 3


def test_snapshot_that_fails_once_is_requested_again() -> None:
    bodies = iter([JPEG, b"", JPEG, JPEG[:2000], JPEG])
    with serving(snapshot=lambda handler: handler.reply(next(bodies))) as server:
        reader = opened(f"{server.url}/snapshot")
        assert all(shows_the_scene(reader) for _ in range(3))
        reader.close()


def test_snapshot_that_fails_repeatedly_is_lost() -> None:
    statuses = iter([200, *[503] * 10])
    answer = lambda handler: handler.reply(JPEG, status=next(statuses))  # noqa: E731
    with serving(snapshot=answer) as server:
        reader = opened(f"{server.url}/snapshot")
        assert shows_the_scene(reader)
        with pytest.raises(SourceLost, match="HTTP 503"):
            reader.read()
        reader.close()
        assert len(server.requests) == 1 + MAX_FAILED_REQUESTS


def test_snapshot_camera_that_stops_answering_is_lost_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_daemon.capture.http_client.NETWORK_TIMEOUT_S", 2.0)
    released = threading.Event()

    def answer(handler: Handler) -> None:
        if len(handler.server.requests) > 1:
            released.wait(10)
        handler.reply(JPEG)

    with serving(snapshot=answer) as server:
        reader = opened(f"{server.url}/snapshot")
        assert shows_the_scene(reader)
        with pytest.raises(SourceLost, match="no answer"):
            reader.read()
        reader.close()
        released.set()
        assert len(server.requests) == 2


def basic(handler: Handler) -> None:
    login = "Basic " + base64.b64encode(b"ann:p@ss").decode()
    if handler.headers["Authorization"] == login:
        handler.reply(JPEG)
    else:
        handler.reply(b"", status=401, WWW_Authenticate='Basic realm="cam"')


def digest(handler: Handler) -> None:
    """RFC 7616 with MD5, and the nonce as the only state."""
    header = handler.headers["Authorization"] or ""
    fields = dict(
        field.strip().split("=", 1) for field in header.removeprefix("Digest ").split(",") if field
    )
    value = {name: text.strip('"') for name, text in fields.items()}

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    expected = md5(
        f"{md5('ann:cam:p@ss')}:{NONCE}:{value.get('nc')}:{value.get('cnonce')}:auth:"
        f"{md5('GET:/digest')}"
    )
    if value.get("response") == expected:
        handler.reply(JPEG)
    else:
        challenge = f'Digest realm="cam", nonce="{NONCE}", qop="auth", algorithm=MD5'
        handler.reply(b"", status=401, WWW_Authenticate=challenge)


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_login_is_sent_as_the_camera_asks(scheme: str) -> None:
    with serving(basic=basic, digest=digest) as server:
        place = server.url.removeprefix("http://")
        reader = opened(f"http://ann:p%40ss@{place}/{scheme}")
        assert all(shows_the_scene(reader) for _ in range(3))
        reader.close()
        assert len(server.requests) == 4
        assert "401" in reason(f"http://ann:wrong@{place}/{scheme}")
        assert "401" in reason(f"http://{place}/{scheme}")


class OneTimeNonces:
    """Digest authentication whose nonces expire after one response, without a `stale` flag."""

    def __init__(self) -> None:
        self.valid: set[str] = set()
        self.accepts = True
        self.count = 0

    def __call__(self, handler: Handler) -> None:
        login = handler.headers["Authorization"] or ""
        answered = {nonce for nonce in self.valid if f'nonce="{nonce}"' in login}
        self.valid -= answered
        if answered and self.accepts:
            handler.reply(JPEG)
            return
        self.count += 1
        self.valid.add(nonce := f"nonce{self.count:04}")
        challenge = f'Digest realm="cam", nonce="{nonce}", qop="auth"'
        handler.reply(b"", status=401, WWW_Authenticate=challenge)


def test_digest_nonce_that_expires_is_renewed() -> None:
    camera = OneTimeNonces()
    with serving(it=camera) as server:
        reader = opened(server.url.replace("//", "//ann:p%40ss@") + "/it")
        assert all(shows_the_scene(reader) for _ in range(5))
        reader.close()
        assert len(server.requests) == 10


def test_digest_login_that_is_refused_is_tried_once() -> None:
    camera = OneTimeNonces()
    camera.accepts = False
    with serving(it=camera) as server:
        assert "401" in reason(server.url.replace("//", "//ann:wrong@") + "/it")
        assert len(server.requests) == 2


def test_digest_login_is_accepted_after_a_refusal() -> None:
    camera = OneTimeNonces()
    with serving(it=camera) as server:
        url = urlsplit(server.url.replace("//", "//ann:p%40ss@") + "/it")
        client = HttpClient(url, verify_certificate=True)
        client.get().read()
        camera.accepts = False
        with pytest.raises(HttpStatusError):
            client.get()
        requests = len(server.requests)
        camera.accepts = True
        client.get().read()
        client.close()
        assert len(server.requests) == requests + 2


@pytest.mark.parametrize(
    "challenge",
    [
        'Digest realm="cam", nonce',
        'Digest realm="cam", nonce="1", opaque=',
        'Digest realm="cam"',
        'Digest realm="cam", nonce="1", algorithm=SHA-512-256',
        'Digest realm="cam", nonce="1", qop="auth-int"',
        "Digest ,",
        "Digest",
    ],
)
def test_digest_challenge_that_is_damaged_is_a_loss(challenge: str) -> None:
    answer = lambda handler: handler.reply(b"", status=401, WWW_Authenticate=challenge)  # noqa: E731
    with serving(it=answer) as server:
        assert "challenge" in reason(server.url.replace("//", "//ann:p%40ss@") + "/it")
        assert len(server.requests) == 1


def test_redirect_is_followed() -> None:
    with serving(
        old=lambda handler: handler.reply(b"", status=302, Location="/new"),
        new=lambda handler: handler.reply(JPEG),
    ) as server:
        reader = opened(f"{server.url}/old")
        assert shows_the_scene(reader)
        reader.close()


def test_path_with_other_characters_is_percent_encoded() -> None:
    answers: dict[str, Answer] = {"stra%C3%9Fe?a=%C3%A4%20b": lambda handler: handler.reply(JPEG)}
    with serving(**answers) as server:
        reader = opened(f"{server.url}/straße?a=ä b")
        assert shows_the_scene(reader)
        reader.close()


def test_address_without_a_path_requests_the_root() -> None:
    answers: dict[str, Answer] = {"?action=stream": lambda handler: handler.reply(JPEG)}
    with serving(**answers) as server:
        reader = opened(f"{server.url}?action=stream")
        assert shows_the_scene(reader)
        reader.close()


def test_redirect_to_other_characters_is_followed() -> None:
    place = "/straße".encode().decode("latin-1")
    answers: dict[str, Answer] = {
        "old": lambda handler: handler.reply(b"", status=302, Location=place),
        "stra%C3%9Fe": lambda handler: handler.reply(JPEG),
    }
    with serving(**answers) as server:
        reader = opened(f"{server.url}/old")
        assert shows_the_scene(reader)
        reader.close()


@pytest.mark.parametrize(
    "place",
    ["http://cam:99999/", "http://[cam/", "//", "ftp://cam/", "rtsp://cam/", "http://ä..ä/"],
)
def test_redirect_to_an_unusable_address_is_a_loss(place: str) -> None:
    encoded = place.encode().decode("latin-1")
    with serving(it=lambda handler: handler.reply(b"", status=302, Location=encoded)) as server:
        assert reason(f"{server.url}/it").startswith(f"{server.url}/it: ")


def test_host_name_with_an_empty_label_is_a_loss() -> None:
    assert "unknown host" in reason("http://cam..local/")


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_redirect_to_another_server_sends_no_login(scheme: str) -> None:
    logins: list[str | None] = []

    def other(handler: Handler) -> None:
        logins.append(handler.headers["Authorization"])
        handler.reply(b"", status=401, WWW_Authenticate='Basic realm="cam"')

    with serving(other=other) as another:

        def redirecting(handler: Handler) -> None:
            if handler.headers["Authorization"]:
                handler.reply(b"", status=302, Location=f"{another.url}/other")
            else:
                {"basic": basic, "digest": digest}[scheme](handler)

        with serving(it=redirecting) as server:
            place = server.url.removeprefix("http://")
            assert another.url in reason(f"http://ann:p%40ss@{place}/it")
    assert logins == [None]


def test_redirect_on_the_same_server_keeps_the_login() -> None:
    def redirecting(handler: Handler) -> None:
        if handler.headers["Authorization"]:
            handler.reply(b"", status=302, Location="/basic")
        else:
            basic(handler)

    with serving(it=redirecting, basic=basic) as server:
        place = server.url.removeprefix("http://")
        reader = opened(f"http://ann:p%40ss@{place}/it")
        assert shows_the_scene(reader)
        reader.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda handler: handler.reply(b"", status=404), "no such path .*404"),
        (lambda handler: handler.reply(b"", status=403), "forbidden .*403"),
        (lambda handler: handler.reply(b"", status=500), "HTTP 500"),
        (lambda handler: handler.reply(b"<html>", "text/html"), "not a video, but text/html"),
        (lambda handler: handler.reply(b"{}", "application/json"), "not a video"),
        (lambda handler: handler.reply(b"", status=302, Location="/it"), "too many redirects"),
    ],
)
def test_address_without_video_reports_why(answer: Answer, expected: str) -> None:
    with serving(it=answer) as server, pytest.raises(SourceLost, match=expected):
        opened(f"{server.url}/it")


def test_camera_that_closes_the_connection_reports_it() -> None:
    def answer(handler: Handler) -> None:
        handler.close_connection = True

    with serving(it=answer) as server:
        assert "closed the connection" in reason(f"{server.url}/it")


def trickle(handler: Handler) -> None:
    """Send a header that never ends, a byte at a time, for as long as the client is there."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nServer: ")
        for _ in range(500):
            handler.wfile.write(b"x")
            time.sleep(0.02)


def redirect_slowly(handler: Handler) -> None:
    time.sleep(0.3)
    handler.reply(b"", status=302, Location="/it")


@pytest.mark.parametrize("answer", [trickle, redirect_slowly])
def test_camera_that_opens_slowly_is_lost_in_time(answer: Answer) -> None:
    with serving(it=answer) as server:
        begun = time.monotonic()
        with pytest.raises(SourceLost, match=r"not open within 0\.5 s"):
            create_source(f"{server.url}/it", open_timeout_s=0.5).open()
        assert time.monotonic() - begun < 8.0  # the camera sends for ten
        eventually(lambda: "open" not in {thread.name for thread in threading.enumerate()})


def test_camera_that_opens_too_late_is_closed() -> None:
    released, closed = threading.Event(), threading.Event()

    def open_late() -> Reader:
        released.wait()
        return cast(Reader, SimpleNamespace(close=closed.set))

    with pytest.raises(SourceLost):
        open_within(0.1, "camera", open_late, abort=lambda: None)
    released.set()
    assert closed.wait(PATIENCE)


def test_limit_on_opening_is_below_the_read_timeout() -> None:
    flags = {("source",): "http://camera/", ("capture", "read_timeout"): "4"}
    settings = load_settings(flags=flags)
    with patch("edge_daemon.capture.HttpCamera") as made:
        source_from_settings(settings)
    assert made.call_args.kwargs["open_timeout_s"] == pytest.approx(3.6)
    assert OPENING_SHARE * CaptureSettings().read_timeout == pytest.approx(OPEN_TIMEOUT_S)


@needs_ffmpeg
def test_video_over_http_is_decoded(tmp_path: Path) -> None:
    clip = video(tmp_path / "clip.ts", "-c:v", "libx264").read_bytes()
    with serving(clip=lambda handler: handler.reply(clip, "video/mp2t")) as server:
        reader = opened(f"{server.url}/clip")
        shapes = [reader.read().bgr.shape for _ in range(FRAMES)]
        assert set(shapes) == {SCENE.shape}
        with pytest.raises(SourceLost, match="the stream ended"):
            reader.read()
        reader.close()
