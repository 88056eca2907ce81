"""A network camera that plays a film, and can fail as cameras do."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from soak.film import RATE, Film


class Mood(Enum):
    """The state of the camera."""

    WELL = auto()
    EMPTY = auto()
    """Working, with an empty scene."""
    LOST = auto()
    """Closes all connections, and new ones."""
    HANGING = auto()
    """Connections stay open without data."""
    GARBLED = auto()
    """Sends damaged images."""
    OTHER_SIZE = auto()


class FilmCamera(ThreadingHTTPServer):
    """Plays a film as MJPEG over HTTP."""

    daemon_threads = True

    def __init__(self, film: Film) -> None:
        super().__init__(("127.0.0.1", 0), _Stream)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/stream"
        self.mood = Mood.WELL
        self.gone = threading.Event()
        self._film = film
        self._began = time.monotonic()

    def picture(self) -> bytes | None:
        """The image to send now, if any."""
        match self.mood:
            case Mood.LOST | Mood.HANGING:
                return None
            case Mood.EMPTY:
                return self._film.empty
            case Mood.OTHER_SIZE:
                return self._film.other_size
        picture = self._film.at(time.monotonic() - self._began)
        return _garbled(picture) if self.mood is Mood.GARBLED else picture

    def handle_error(self, *_: object) -> None:
        """A disconnected client is no error."""


class _Stream(BaseHTTPRequestHandler):
    server: FilmCamera

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        while self.server.mood is not Mood.LOST and not self.server.gone.wait(1 / RATE):
            if (jpeg := self.server.picture()) is not None:
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
                self.wfile.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Faults are logged elsewhere."""


@contextmanager
def playing(film: Film) -> Iterator[FilmCamera]:
    camera = FilmCamera(film)
    thread = threading.Thread(target=camera.serve_forever, args=(0.1,))
    thread.start()
    try:
        yield camera
    finally:
        camera.gone.set()
        camera.shutdown()
        thread.join()
        camera.server_close()


def _garbled(picture: bytes) -> bytes:
    noisy = bytearray(picture)
    for _ in range(20):
        noisy[random.randrange(len(noisy))] = random.randrange(256)
    return bytes(noisy)
