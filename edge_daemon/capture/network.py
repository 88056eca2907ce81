"""What network cameras share: addresses, errors, and a small HTTP client.

The client keeps one connection, and knows Basic and Digest authentication.
"""

import base64
import http.client
import re
import socket
import ssl
import string
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from http.client import HTTPResponse
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from edge_daemon import __version__
from edge_daemon._lib.text import without_password
from edge_daemon.capture.base import Reader
from edge_daemon.errors import SourceError, SourceLost, in_one_line
from edge_daemon.pipeline import in_thread

NETWORK_TIMEOUT_S: Final = 5.0
"""Seconds for connecting and for each read: less than the supervisor's `capture.read_timeout`."""

OPENING_SHARE: Final = 0.9
"""Part of `capture.read_timeout` for all steps of opening, after which the camera is lost."""

OPEN_TIMEOUT_S: Final = 9.0
"""That part of its default."""

ENCODING_HINT: Final = (
    "percent-encode special characters in the user name and password: "
    "%40 for @, %2F for /, %3F for ?, %23 for #, %3A for :"
)

CERTIFICATE_HINT: Final = (
    "for a camera with a self-signed certificate, set capture.verify_certificate = false"
)

SCHEMES: Final = frozenset({"http", "https", "rtsp", "rtsps"})


class HttpStatusError(Exception):
    """Raised for a response that is not a success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status


def parse_address(url: str) -> SplitResult:
    """Split a camera's address; its scheme is in lower case.

    Raises:
        SourceError: it does not parse, or has an unsupported scheme; the message holds no password.
    """
    masked = without_password(url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise SourceError(f"{masked}: invalid address; {ENCODING_HINT}") from error
    if parts.scheme not in SCHEMES:
        supported = ", ".join(sorted(SCHEMES))
        raise SourceError(f"{masked}: unsupported scheme; supported are {supported}")
    if not host or _may_hide_a_login(parts):
        raise SourceError(f"{masked}: invalid address; {ENCODING_HINT}")
    return parts


def _may_hide_a_login(parts: SplitResult) -> bool:
    """Whether an `@` further on may end a login with unencoded characters, such as `/`."""
    if parts.username is not None:
        return "@" in f"{parts.path}{parts.query}{parts.fragment}"
    return ":" in parts.netloc and "@" in f"{parts.path}{parts.fragment}"


def reason_of(error: BaseException, host: str) -> str:
    """Why a camera cannot be opened or read, and the remedy, in a few words without its address."""
    match error:
        case HttpStatusError():
            reason = _reason_of_status(error.status)
        case ssl.SSLCertVerificationError():
            reason = f"its certificate is not trusted ({error.verify_message}); {CERTIFICATE_HINT}"
        case socket.gaierror() | UnicodeError():
            reason = unknown_host(host)
        case ConnectionRefusedError():
            reason = "connection refused; check the port, and that the camera is on"
        case TimeoutError():
            reason = f"no answer within {NETWORK_TIMEOUT_S:g} s"
        case http.client.IncompleteRead() | http.client.RemoteDisconnected():
            reason = "the camera closed the connection"
        case http.client.HTTPException():
            reason = str(error) or type(error).__name__
        case OSError() if error.strerror:
            reason = error.strerror[:1].lower() + error.strerror[1:]
        case _:
            reason = in_one_line(error)
    return reason


def unknown_host(host: str) -> str:
    return f"unknown host {host}; check the name and the network, or use the IP address"


def _reason_of_status(status: int) -> str:
    match status:
        case 401:
            return f"user name or password is wrong or missing (HTTP 401); {ENCODING_HINT}"
        case 403:
            return "access is forbidden (HTTP 403); check the user's rights in the camera"
        case 404:
            return "no such path on the camera (HTTP 404)"
        case _:
            phrase = http.client.responses.get(status, "unknown status")
            return f"HTTP {status} ({phrase})"


def is_resolvable(host: str) -> bool:
    """Whether the host's name can be looked up now.

    The resolver has no time limit of its own: it waits long for a name server without an answer.
    """
    look_up = in_thread("look-up", partial(socket.getaddrinfo, host, None))
    done, _ = wait([look_up], NETWORK_TIMEOUT_S)
    return bool(done) and look_up.exception() is None


def open_within(
    timeout_s: float, name: str, open_reader: Callable[[], Reader], abort: Callable[[], None]
) -> Reader:
    """Open a camera in a limited time, of which each step has a limit of its own only.

    Args:
        timeout_s: limit on all steps together.
        name: the source's name.
        open_reader: opens it.
        abort: called when that takes too long, to end it soon.

    Raises:
        SourceLost: it takes longer, or as `open_reader`. A reader that comes later is closed.
    """
    opening = in_thread("open", open_reader)
    done, _ = wait([opening], timeout_s)
    if done:
        return opening.result()
    opening.add_done_callback(_close_late)
    abort()
    raise SourceLost(f"{name}: not open within {timeout_s:g} s; check the network and the camera")


def _close_late(opening: Future[Reader]) -> None:
    if opening.exception() is None:
        opening.result().close()


def certificate_file() -> str | None:
    """The system's certificates as one file, as FFmpeg needs them."""
    return ssl.get_default_verify_paths().cafile


def tls_context(*, verify: bool) -> ssl.SSLContext:
    """Settings of a TLS client, with or without a check of the server's certificate."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


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
