"""Access control: who may use the preview, and from which web pages.

A browser also sends requests on behalf of other sites. They are recognised by the headers `Origin`
and `Sec-Fetch-Site`, which no page can forge, and by the Host header: a foreign name that resolves
to this machine (DNS rebinding) is refused. If other machines can reach the preview, it also
requires a token.
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

FORM_TOKEN_HEADER: Final = "X-Preview-Token"  # noqa: S105  # a header's name
"""Header of requests that change something."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD"})

SECURITY_HEADERS: Final = {
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


class AuthMiddleware:
    """Refuses requests that are not authorised, and adds security headers to all responses.

    Args:
        app: the application to protect.
        host_names: accepted names in the Host header, with `login` also below any domain; IP
            addresses are always accepted.
        form_token: token that requests which change something must carry.
        login: asks for the access token; None where none is needed.
        public_paths: paths that need no access token.
    """

    def __init__(
        self,
        app: ASGIApp,
        host_names: frozenset[str],
        form_token: str,
        login: "TokenLogin | None",
        public_paths: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._host_names = host_names
        self._form_token = form_token
        self._login = login
        self._public_paths = public_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        response = self._refusal(HTTPConnection(scope)) or self._app
        await response(scope, receive, send_with_headers)

    def _refusal(self, request: HTTPConnection) -> Response | None:
        """The response to a request that is not authorised; None for others."""
        if not self._is_known_host(request.headers.get("host", "")):
            return _error("unrecognised Host header", 421)
        if not _is_same_origin(request):
            return _error("cross-site request refused", 403)
        # Not the path of `request.url`, which depends on the Host header.
        if self._login is not None and request.scope["path"] not in self._public_paths:
            response = self._login.response(request)
            if response is not None:
                return response
        is_change = request.scope.get("method", "GET") not in SAFE_METHODS
        if is_change and not is_equal(request.headers.get(FORM_TOKEN_HEADER, ""), self._form_token):
            return _error(f"{FORM_TOKEN_HEADER}: missing or wrong", 403)
        return None

    def _is_known_host(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
        except ValueError:
            return False
        name = parts.hostname or ""
        if parts.netloc != host:
            return False
        # Behind the token, with any domain: routers append their own to this machine's name.
        label = name if self._login is None else name.partition(".")[0]
        return not self._host_names.isdisjoint({name, label}) or is_ip_address(name)


class TokenLogin:
    """Asks for the access token: first in the URL, then in a cookie.

    Args:
        page: the page for clients without the token.
        port: port of the preview; browsers send a host's cookies to all of its ports.
    """

    def __init__(self, page: bytes, port: int) -> None:
        self.token = new_token()
        self._page = page
        self._cookie = f"edge-daemon-{port}"

    def response(self, request: HTTPConnection) -> Response | None:
        """The response to a request without the cookie; None with it."""
        token = request.query_params.get("token")
        if token is not None and is_equal(token, self.token):
            response = RedirectResponse("/", 303)
            response.set_cookie(self._cookie, self.token, httponly=True, samesite="strict")
            return response
        if is_equal(request.cookies.get(self._cookie, ""), self.token):
            return None
        return HTMLResponse(self._page, 401)


def new_token() -> str:
    """A random token for URLs and headers."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def host_names(listen_host: str, *, is_local: bool) -> frozenset[str]:
    """Names that browsers may use for a server on this host.

    This machine's own name is accepted only with a token: who controls the network's name server
    could rebind it.
    """
    names = {"localhost", listen_host.lower()}
    if not is_local:
        names.add(socket.gethostname().lower().partition(".")[0])
    return frozenset(names)


def is_ip_address(name: str) -> bool:
    """Whether the name is an IP address, which cannot be rebound."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_equal(secret: str, expected: str) -> bool:
    """Compare secrets in constant time."""
    return secrets.compare_digest(secret.encode(), expected.encode())


def _is_same_origin(request: HTTPConnection) -> bool:
    """Whether the preview's page, a user's navigation, or no browser at all sent the request."""
    headers = request.headers
    host = headers.get("host")
    if headers.get("origin") not in {None, f"http://{host}", f"https://{host}"}:
        return False
    site = headers.get("sec-fetch-site", "none")
    is_link = headers.get("sec-fetch-mode") == "navigate" and request.scope["path"] == "/"
    return is_link or site in {"same-origin", "none"}


def _error(reason: str, status: int) -> Response:
    return PlainTextResponse(f"edge-daemon: {reason}\n", status)
