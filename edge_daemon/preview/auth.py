"""Who may see the preview: only pages of its own, under names that are this machine's.

A browser sends requests also for pages of others. They are known by the headers `Origin` and
`Sec-Fetch-Site`, which no page can forge, and by the host: a name that was made to point here (DNS
rebinding) is none of ours. Where others than this machine's users can reach the preview, they need
its token, too.
"""

import ipaddress
import secrets
import socket
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_BYTES: Final = 16

FORM_TOKEN: Final = "X-Preview-Token"  # noqa: S105  # a header's name
"""Header of requests that change something."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD"})

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Lets through what may pass, and puts the headers on all that goes out.

    Args:
        app: what is guarded.
        names: the names under which this machine is known; addresses need no name.
        form_token: what requests that change something must carry.
        entrance: what asks for the token; None where none is asked for.
        public: paths that need no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: frozenset[str],
        form_token: str,
        entrance: "Entrance | None",
        public: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._names = names
        self._form_token = form_token
        self._entrance = entrance
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._answer(HTTPConnection(scope)) or self._app
        await answer(scope, receive, send_with_headers)

    def _answer(self, request: HTTPConnection) -> Response | None:
        """What is said instead of letting a request through."""
        if not self._is_known(request.headers.get("host", "")):
            return _refusal("this is no name of this machine", 421)
        if not _is_of_our_page(request):
            return _refusal("only the preview's own page may ask for this", 403)
        # Not the path of `request.url`, into which the header Host goes, too.
        if self._entrance is not None and request.scope["path"] not in self._public:
            answer = self._entrance.answer(request)
            if answer is not None:
                return answer
        changing = request.scope.get("method", "GET") not in SAFE_METHODS
        if changing and not same(request.headers.get(FORM_TOKEN, ""), self._form_token):
            return _refusal(f"the header {FORM_TOKEN} is missing or wrong", 403)
        return None

    def _is_known(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
        except ValueError:
            return False
        name = parts.hostname or ""
        return parts.netloc == host and (name in self._names or is_address(name))


class Entrance:
    """Asks for the token: once in the URL, then in a cookie.

    Args:
        page: what is shown to whoever has none.
        port: where it is served: cookies of one host are sent to all of its ports.
    """

    def __init__(self, page: bytes, port: int) -> None:
        self.token = new_token()
        self._page = page
        self._cookie = f"edge-daemon-{port}"

    def answer(self, request: HTTPConnection) -> Response | None:
        """What is said instead of letting a request through."""
        if (said := request.query_params.get("token")) is not None and same(said, self.token):
            response = RedirectResponse("/", 303)
            response.set_cookie(self._cookie, self.token, httponly=True, samesite="strict")
            return response
        if same(request.cookies.get(self._cookie, ""), self.token):
            return None
        return HTMLResponse(self._page, 401)


def new_token() -> str:
    """A secret that fits in URLs and headers."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def local_names(listen: str, *, local: bool) -> frozenset[str]:
    """Names under which browsers may ask for what is served at the host `listen`.

    Whoever rules the network's names could rebind this machine's own, so those are for others only.
    """
    names = {"localhost", listen.lower()}
    if not local:
        own = socket.gethostname().lower()
        names |= {own, f"{own}.local"}
    return frozenset(names)


def is_address(name: str) -> bool:
    """Whether it is no name that could be bound to something else."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def same(said: str, known: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell how much of them is."""
    return secrets.compare_digest(said.encode(), known.encode())


def _is_of_our_page(request: HTTPConnection) -> bool:
    """Whether our page asks, or a person who opens it, or no browser at all."""
    headers = request.headers
    host = headers.get("host")
    if headers.get("origin") not in {None, f"http://{host}", f"https://{host}"}:
        return False
    site = headers.get("sec-fetch-site", "none")
    followed = headers.get("sec-fetch-mode") == "navigate" and request.scope["path"] == "/"
    return followed or site in {"same-origin", "none"}


def _refusal(reason: str, status: int) -> Response:
    return PlainTextResponse(f"edge-daemon: {reason}\n", status)
