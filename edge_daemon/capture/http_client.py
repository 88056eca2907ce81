"""A small HTTP client for cameras: one kept connection, with Basic and Digest authentication."""

import base64
import http.client
import re
import socket
import ssl
import string
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPResponse
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urljoin

from edge_daemon import __version__
from edge_daemon.capture.network import (
    NETWORK_TIMEOUT_S,
    HttpStatusError,
    is_resolvable,
    parse_address,
    unknown_host,
)
from edge_daemon.errors import SourceError

MAX_REDIRECTS: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

PORTS: Final = {"http": 80, "https": 443}

NONCE: Final = re.compile(r'\bnonce\s*=\s*"?([^",]*)', re.IGNORECASE)

INVALID_CHALLENGE: Final = (
    "sends a damaged or unsupported Digest challenge; enable Basic authentication in the camera"
)

HEADERS: Final = {"User-Agent": f"edge-daemon/{__version__}", "Accept": "*/*"}


class HttpClient:
    """Requests one address repeatedly, over a connection that stays open where the server allows.

    Neither `requests` nor `urllib` serves here: the first is 2 MB for this one use, and the second
    closes the connection after each response.

    Args:
        url: parsed, with user name and password if the server asks for them.
        verify_certificate: whether the server must have a trusted certificate (https).
    """

    def __init__(self, url: SplitResult, *, verify_certificate: bool) -> None:
        self._verify_certificate = verify_certificate
        self._user = None if url.username is None else unquote(url.username)
        self._password = unquote(url.password or "")
        self._challenge: str | None = None
        self._digest: urllib.request.AbstractDigestAuthHandler | None = None
        self._origin = _origin_of(url)
        self._go_to(url)

    def get(self) -> HTTPResponse:
        """Request the address; the response's body must be read before the next request.

        Raises:
            HttpStatusError: the response is not a success.
            OSError, http.client.HTTPException, UnicodeError: there is none.
        """
        is_renewed = False
        for _ in range(MAX_REDIRECTS):
            response = self._response()
            if response.status == 401 and self._accepts(response, is_renewed=is_renewed):
                is_renewed = True
                response.read()
            elif response.status in REDIRECTS and (location := response.headers["Location"]):
                self.close()
                self._redirect(location)
            elif response.status != 200:
                self.close()
                if response.status == 401:
                    self._challenge = None
                raise self._refusal(response.status)
            else:
                return response
        self.close()
        raise http.client.HTTPException("too many redirects")

    @property
    def host(self) -> str:
        """The host of the next request, which a redirect can change."""
        return self._url.hostname or ""

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        """Make a call of `get` in another thread fail soon."""
        if (connected := self._connection.sock) is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _go_to(self, url: SplitResult) -> None:
        """Make a connection, not yet open."""
        self._url = url
        target = url._replace(scheme="", netloc="", path=url.path or "/", fragment="").geturl()
        self._target = quote(target, safe=string.punctuation)
        host, port = url.hostname or "", url.port
        if url.scheme == "https":
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host,
                port,
                timeout=NETWORK_TIMEOUT_S,
                context=tls_context(verify=self._verify_certificate),
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=NETWORK_TIMEOUT_S)

    def _redirect(self, location: str) -> None:
        """Go to the address in a `Location`; another server does not receive the login.

        Raises:
            http.client.HTTPException: the address is not one of HTTP.
        """
        # http.client decodes each byte of a header to one character.
        location = quote(location, safe=string.punctuation, encoding="latin-1")
        try:
            url = parse_address(urljoin(self._url.geturl(), location))
        except (SourceError, ValueError) as error:
            raise http.client.HTTPException("redirects to an invalid address") from error
        if url.scheme not in PORTS:
            raise http.client.HTTPException(f"redirects to an address of scheme {url.scheme}")
        if _origin_of(url) != _origin_of(self._url):
            self._user = self._challenge = self._digest = None
            self._password = ""
            if not is_resolvable(url.hostname or ""):
                raise http.client.HTTPException(f"redirects to {unknown_host(url.hostname or '')}")
        self._go_to(url)

    def _refusal(self, status: int) -> Exception:
        scheme, host, port = _origin_of(self._url)
        if status == 401 and (scheme, host, port) != self._origin:
            return http.client.HTTPException(
                f"redirects to {scheme}://{host}:{port}, which requires a login; "
                "set that address as the source"
            )
        return HttpStatusError(status)

    def _response(self) -> HTTPResponse:
        is_kept = self._connection.sock is not None
        headers = HEADERS | self._authorization()
        try:
            self._connection.request("GET", self._target, headers=headers)
            return self._connection.getresponse()
        except (ConnectionError, http.client.BadStatusLine):
            self.close()
            if not is_kept:
                raise
        # The server had closed the connection since the last response.
        self._connection.request("GET", self._target, headers=headers)
        return self._connection.getresponse()

    def _accepts(self, response: HTTPResponse, *, is_renewed: bool) -> bool:
        """Take a challenge, unless there is nothing to answer it with, or the login is wrong.

        Cameras let a nonce expire without a `stale` flag, so a challenge with another one is
        answered, but only once for each request (`is_renewed`): a wrong login gets new ones, too.
        """
        challenges = response.headers.get_all("WWW-Authenticate", [])
        usable = sorted(challenges, key=_preference)
        if self._user is None or not usable:
            return False
        is_new = not is_renewed and _nonce_of(usable[0]) != _nonce_of(self._challenge)
        if self._challenge and not is_new and not _is_stale(usable[0]):
            return False
        self._challenge = usable[0]
        return True

    def _authorization(self) -> dict[str, str]:
        if self._challenge is None:
            return {}
        scheme, _, parameters = self._challenge.partition(" ")
        if scheme.lower() == "digest":
            return {"Authorization": f"Digest {self._digest_response(parameters)}"}
        login = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        return {"Authorization": f"Basic {login}"}

    def _digest_response(self, parameters: str) -> str:
        """Answer a Digest challenge (RFC 7616) as the standard library does.

        Raises:
            http.client.HTTPException: it is damaged, or of an unsupported kind.
        """
        if self._digest is None:
            passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            uri = f"http://{self._connection.host}/"
            passwords.add_password(None, uri, self._user or "", self._password)
            self._digest = urllib.request.AbstractDigestAuthHandler(passwords)
        request = urllib.request.Request(f"http://{self._connection.host}{self._target}")
        try:
            fields = urllib.request.parse_keqv_list(urllib.request.parse_http_list(parameters))
            fields["algorithm"] = fields.get("algorithm", "MD5").upper()
            response = self._digest.get_authorization(request, fields)
        except (ValueError, IndexError, urllib.error.URLError) as error:
            raise http.client.HTTPException(INVALID_CHALLENGE) from error
        if response is None:
            raise http.client.HTTPException(INVALID_CHALLENGE)
        return str(response)


def tls_context(*, verify: bool) -> ssl.SSLContext:
    """Settings of a TLS client, with or without a check of the server's certificate."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _origin_of(url: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port: all that must be equal for a login to be valid at both addresses."""
    return url.scheme, url.hostname or "", url.port or PORTS.get(url.scheme, 0)


def _preference(challenge: str) -> tuple[bool, bool]:
    """Sorts the strongest first that the standard library can answer: Digest with MD5."""
    words = challenge.lower()
    return not words.startswith("digest"), "sha" in words


def _nonce_of(challenge: str | None) -> str | None:
    """The nonce of a Digest challenge; None for other schemes."""
    found = NONCE.search(challenge or "")
    return found and found[1]


def _is_stale(challenge: str) -> bool:
    """Whether the server accepts the login, but wants another nonce."""
    return "stale=true" in challenge.lower().replace('"', "").replace(" ", "")
