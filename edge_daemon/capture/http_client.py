"""A small HTTP client for cameras: one kept connection, Basic and Digest authentication."""

import base64
import http.client
import urllib.request
from http.client import HTTPResponse
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from edge_daemon import __version__
from edge_daemon.capture.network import NETWORK_TIMEOUT_S, HttpStatusError, tls_context

MAX_REDIRECTS: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

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
        self._go_to(url)

    def get(self) -> HTTPResponse:
        """Request the address; the response's body must be read before the next request.

        Raises:
            HttpStatusError: the response is not a success.
            OSError, http.client.HTTPException: there is none.
        """
        for _ in range(MAX_REDIRECTS):
            response = self._response()
            if response.status == 401 and self._accepts(response):
                response.read()
            elif response.status in REDIRECTS and (place := response.headers["Location"]):
                self.close()
                self._go_to(urlsplit(urljoin(self._url.geturl(), place)))
            elif response.status != 200:
                self.close()
                raise HttpStatusError(response.status)
            else:
                return response
        self.close()
        raise http.client.HTTPException("too many redirects")

    def close(self) -> None:
        self._connection.close()

    def _go_to(self, url: SplitResult) -> None:
        """Make a connection, not yet open."""
        self._url = url
        self._target = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
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

    def _accepts(self, response: HTTPResponse) -> bool:
        """Take a challenge, unless there is nothing to answer it with, or it was answered."""
        challenges = response.headers.get_all("WWW-Authenticate", [])
        usable = sorted(challenges, key=_preference)
        if self._user is None or not usable or (self._challenge and not _is_stale(usable[0])):
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
        """Answer a Digest challenge (RFC 7616) as the standard library does."""
        if self._digest is None:
            passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            place = f"http://{self._connection.host}/"
            passwords.add_password(None, place, self._user or "", self._password)
            self._digest = urllib.request.AbstractDigestAuthHandler(passwords)
        challenge = urllib.request.parse_keqv_list(urllib.request.parse_http_list(parameters))
        challenge["algorithm"] = challenge.get("algorithm", "MD5").upper()
        request = urllib.request.Request(f"http://{self._connection.host}{self._target}")
        try:
            return str(self._digest.get_authorization(request, challenge))
        except ValueError as error:  # an algorithm that the standard library lacks
            raise HttpStatusError(401) from error


def _preference(challenge: str) -> tuple[bool, bool]:
    """Sorts the strongest first that the standard library can answer: Digest with MD5."""
    words = challenge.lower()
    return not words.startswith("digest"), "sha" in words


def _is_stale(challenge: str) -> bool:
    """Whether the server accepts the login, but wants another nonce."""
    return "stale=true" in challenge.lower().replace('"', "").replace(" ", "")
