"""What network cameras share: their addresses, and why one cannot be read."""

import http.client
import socket
import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

from edge_daemon._lib.text import without_password
from edge_daemon.errors import SourceError, in_one_line

NETWORK_TIMEOUT_S: Final = 5.0
"""Seconds for connecting and for each read: less than the supervisor's `capture.read_timeout`."""

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
        case socket.gaierror():
            reason = f"unknown host {host}"
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
    """Whether the host's name can be looked up now."""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


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
