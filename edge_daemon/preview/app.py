"""The page, its requests and the responses, as an ASGI application."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from pathlib import PurePath
from typing import Final, NamedTuple

import cv2
import numpy as np
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from edge_daemon._lib.clock import Clock
from edge_daemon.capture.status import Pause
from edge_daemon.config.settings import Polygon, ZoneSettings
from edge_daemon.monitoring.health import Health
from edge_daemon.pipeline import in_thread
from edge_daemon.preview.devices import Devices
from edge_daemon.preview.history import History
from edge_daemon.preview.stream import (
    Condition,
    PreviewFrame,
    PreviewStream,
    condition,
    crops,
    preview_frame,
)
from edge_daemon.records import FrameResult, Image
from edge_daemon.schema import FaceEvent, Timestamp

MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


MAX_PHOTO_SIDE_PX: Final = 960
"""Longer side of a photo; the page reduces larger ones."""

RGBA: Final = 4
"""Bytes per pixel of a photo."""

MAX_PHOTO_BYTES: Final = RGBA * MAX_PHOTO_SIDE_PX**2


class PageConfig(BaseModel, frozen=True):
    """What the page needs once, when it connects."""

    device: str
    version: str
    source: str
    camera: bool = Field(description="Whether the source is a camera, not a file.")
    emotions: tuple[str, ...]
    zones: tuple[Polygon, ...] = Field(description="Regions in which faces are ignored.")
    interval_ms: float = Field(description="Milliseconds between two messages at least.")
    token: str = Field(description="Form token for requests that change something.")


class LastMinute(BaseModel, frozen=True):
    """Results of the last minute, to save as a file."""

    time: Timestamp
    device: str
    condition: Condition
    frames: tuple[PreviewFrame, ...]


class Events(BaseModel, frozen=True):
    """The newest events, oldest first."""

    events: tuple[FaceEvent, ...]


class PhotoResult(BaseModel, frozen=True):
    """The models' output for a photo."""

    frame: PreviewFrame
    crops: dict[int, str]


class PageFile(NamedTuple):
    """A static file of the page."""

    content: bytes
    media_type: str


def page_files() -> dict[str, PageFile]:
    """All files of the page by name, read once: no request names a file on the disk."""
    folder = files("edge_daemon.preview") / "page"
    return {
        file.name: PageFile(file.read_bytes(), MEDIA_TYPES[PurePath(file.name).suffix])
        for file in folder.iterdir()
    }


class PreviewApp:
    """Handles the page's requests.

    Args:
        page: the page's files by name.
        page_config: what the page needs when it connects.
        stream: source of the live messages.
        history: past results.
        health: source of the figures.
        pause: the privacy switch.
        analyze: detects and recognises the faces of a photo; may be slow.
        devices: the devices of the broker.
        clock: the clock to use.
    """

    def __init__(
        self,
        page: Mapping[str, PageFile],
        page_config: PageConfig,
        *,
        stream: PreviewStream,
        history: History,
        health: Health,
        pause: Pause,
        analyze: Callable[[Image], FrameResult],
        devices: Callable[[], Devices],
        clock: Clock,
    ) -> None:
        self._page_config = page_config
        self._stream = stream
        self._history = history
        self._health = health
        self._pause = pause
        self._analyze = analyze
        self._devices = devices
        self._photo_lock = asyncio.Lock()
        self._clock = clock
        self.asgi = Starlette(
            routes=[
                Route("/", _static(page["index.html"])),
                *(Route(f"/{name}", _static(file)) for name, file in page.items()),
                Route("/session", self._get_page_config),
                Route("/events", self._get_events),
                Route("/devices", self._get_devices),
                Route("/minute.json", self._get_last_minute),
                Route("/pause", self._post_pause, methods=["POST"]),
                Route("/resume", self._post_resume, methods=["POST"]),
                Route("/photo", self._post_photo, methods=["POST"]),
                WebSocketRoute("/live", self._live),
            ]
        )

    def apply(self, settings: ZoneSettings) -> None:
        """Show other zones to pages that connect from now on."""
        self._page_config = self._page_config.model_copy(update={"zones": settings.ignore})

    async def _get_page_config(self, _request: Request) -> Response:
        return _json(self._page_config.model_dump_json())

    async def _get_events(self, _request: Request) -> Response:
        return _json(Events(events=tuple(self._history.events())).model_dump_json())

    async def _get_devices(self, _request: Request) -> Response:
        return _json(self._devices().model_dump_json())

    async def _get_last_minute(self, _request: Request) -> Response:
        frames = (preview_frame(past.result, past.latency_ms) for past in self._history.results())
        message = LastMinute(
            time=self._clock.now(),
            device=self._page_config.device,
            condition=condition(self._health, self._history),
            frames=tuple(frames),
        )
        name = f"edge-daemon-{message.device}-{message.time:%Y%m%d-%H%M%S}.json"
        response = _json(message.model_dump_json(by_alias=True))
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    async def _post_pause(self, _request: Request) -> Response:
        return await self._switch(paused=True)

    async def _post_resume(self, _request: Request) -> Response:
        return await self._switch(paused=False)

    async def _switch(self, *, paused: bool) -> Response:
        """Pause or resume; the response comes once that is saved, which can block on the disk."""
        is_saved = await asyncio.wrap_future(in_thread("pause", lambda: self._pause.set(paused)))
        self._stream.notify()
        if not is_saved:
            return PlainTextResponse("edge-daemon: not saved for the next start\n", 500)
        return Response(status_code=204)

    async def _post_photo(self, request: Request) -> Response:
        """Analyse a photo: its pixels are the body, its size is in the query. Nothing is stored.

        The page decodes the photo, so no image decoder here reads untrusted files.
        """
        if self._photo_lock.locked():
            return PlainTextResponse("edge-daemon: another photo is being analysed\n", 429)
        async with self._photo_lock:
            image = await _photo_from(request)
            if image is None:
                return PlainTextResponse("edge-daemon: photo too large or not RGBA\n", 400)
            # Loading the models takes too long for the event loop, which serves all clients.
            result = await asyncio.wrap_future(in_thread("photo", lambda: self._analyze(image)))
            message = PhotoResult(frame=preview_frame(result, 0.0), crops=crops(result))
            return _json(message.model_dump_json(by_alias=True))

    async def _live(self, socket: WebSocket) -> None:
        """Send one message per request, so that a slow client gets fewer of them."""
        await socket.accept()
        number = 0
        with self._stream.viewer():
            while (await socket.receive())["type"] == "websocket.receive":
                message = await self._stream.after(number)
                try:
                    await socket.send_bytes(message.content)
                except WebSocketDisconnect:
                    return
                number = message.number


def _static(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
    async def serve(_request: Request) -> Response:
        return Response(file.content, media_type=file.media_type)

    return serve


def _json(content: str) -> Response:
    return Response(content, media_type="application/json")


async def _photo_from(request: Request) -> Image | None:
    """The photo in a request; None if it is too large, incomplete or not valid."""
    pixels = bytearray()
    try:
        async for chunk in request.stream():
            pixels += chunk
            if len(pixels) > MAX_PHOTO_BYTES:
                return None
    except ClientDisconnect:
        return None
    size = (request.query_params.get(name, "") for name in ("width", "height"))
    width, height = (int(text) if text.isdecimal() and len(text) < 6 else 0 for text in size)
    return image_from(bytes(pixels), width, height)


def image_from(pixels: bytes, width: int, height: int) -> Image | None:
    """Decode a canvas's pixels, RGBA in row order: BGR uint8 [H, W, 3].

    Returns:
        None if the size is not valid or does not match the pixels.
    """
    is_valid = 0 < width <= MAX_PHOTO_SIDE_PX and 0 < height <= MAX_PHOTO_SIDE_PX
    if not is_valid or len(pixels) != RGBA * width * height:
        return None
    rgba = np.frombuffer(pixels, np.uint8).reshape(height, width, RGBA)
    return np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR), np.uint8)
