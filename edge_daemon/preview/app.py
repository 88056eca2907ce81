"""The page and what it asks for, as an ASGI application."""

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from pathlib import PurePath
from typing import Final, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from edge_daemon.capture.pause import Pause
from edge_daemon.preview.responses import Facts
from edge_daemon.preview.stream import Stream

MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


class PageFile(NamedTuple):
    """One of the files that the page is made of."""

    content: bytes
    media_type: str


def page_files() -> dict[str, PageFile]:
    """All files of the page by name, read once: no request names a file on the disk."""
    folder = files("edge_daemon.preview") / "page"
    return {
        file.name: PageFile(file.read_bytes(), MEDIA_TYPES[PurePath(file.name).suffix])
        for file in folder.iterdir()
    }


class Preview:
    """Answers requests.

    Args:
        page: the page's files by name.
        facts: what is told when it is asked for.
        stream: where watchers wait.
        pause: the privacy switch.
        form_token: what the page is to send with a request that changes something.
    """

    def __init__(
        self,
        page: Mapping[str, PageFile],
        facts: Facts,
        stream: Stream,
        pause: Pause,
        form_token: str,
    ) -> None:
        self._facts = facts
        self._stream = stream
        self._pause = pause
        self._form_token = form_token
        self.app = Starlette(
            routes=[
                Route("/", _serve(page["index.html"])),
                *(Route(f"/{name}", _serve(file)) for name, file in page.items()),
                Route("/session", self._tell_session),
                Route("/minute.json", self._tell_minute),
                Route("/pause", self._set_paused, methods=["POST"]),
                Route("/resume", self._set_resumed, methods=["POST"]),
                WebSocketRoute("/live", self._live),
            ]
        )

    async def _tell_session(self, _request: Request) -> Response:
        told = self._facts.session(self._form_token)
        return Response(told.model_dump_json(), media_type="application/json")

    async def _tell_minute(self, _request: Request) -> Response:
        told = self._facts.last_minute()
        name = f"edge-daemon-{told.device}-{told.time:%Y%m%d-%H%M%S}.json"
        return Response(
            told.model_dump_json(by_alias=True),
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    async def _set_paused(self, _request: Request) -> Response:
        self._pause.set(True)
        return Response(status_code=204)

    async def _set_resumed(self, _request: Request) -> Response:
        self._pause.set(False)
        return Response(status_code=204)

    async def _live(self, socket: WebSocket) -> None:
        """Send one message for each that comes: whoever reads slowly asks seldom."""
        await socket.accept()
        number = 0
        with self._stream.watched():
            while (await socket.receive())["type"] == "websocket.receive":
                message = await self._stream.after(number)
                try:
                    await socket.send_bytes(message.content)
                except WebSocketDisconnect:
                    return
                number = message.number


def _serve(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
    async def serve(_request: Request) -> Response:
        return Response(file.content, media_type=file.media_type)

    return serve
