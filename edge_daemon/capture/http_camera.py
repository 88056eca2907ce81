"""Live frames over HTTP: MJPEG streams, and still images that are polled.

FFmpeg reads MJPEG, too, but ends the stream at the first part that is empty or damaged.
"""

import contextlib
import http.client
from functools import partial
from http.client import HTTPResponse
from typing import Final

from edge_daemon._lib.text import without_password
from edge_daemon.capture.base import CapturedFrame, Reader, SourceKind
from edge_daemon.capture.http_client import HttpClient
from edge_daemon.capture.image_decoding import (
    JPEG_START,
    ImageError,
    JpegInfo,
    decode_image,
    decode_jpeg,
    jpeg_info,
)
from edge_daemon.capture.network import (
    OPEN_TIMEOUT_S,
    HttpStatusError,
    is_resolvable,
    open_within,
    parse_address,
    reason_of,
    unknown_host,
)
from edge_daemon.errors import SourceLost
from edge_daemon.records import Image

PLAYLIST_START: Final = b"#EXTM3U"
"""Of HLS, which some servers send as text."""

MAX_IMAGE_BYTES: Final = 32 * 1024 * 1024
MAX_LINE_BYTES: Final = 65536
MAX_BOUNDARY_BYTES: Final = 80

MAX_DAMAGED: Final = 10
"""Images in a row that may be empty or damaged, before the source is lost."""

MAX_FAILED_REQUESTS: Final = 3
"""Requests of a still image in a row that may fail, unless the camera does not answer."""

READ_ERRORS = (OSError, http.client.HTTPException, HttpStatusError, ValueError)
"""ValueError: a host name that cannot be encoded, or a length of more digits than Python reads."""


class HttpCamera:
    """A camera at an `http://` or `https://` address; the response shows of which kind it is.

    Args:
        url: its address, with user name and password if the camera asks for them.
        verify_certificate: whether the server must have a trusted certificate (https).
        open_timeout_s: limit on opening, redirects and login included.

    Raises:
        SourceError: the address does not parse.
    """

    kind = SourceKind.CAMERA
    is_live = True

    def __init__(
        self, url: str, *, verify_certificate: bool = True, open_timeout_s: float = OPEN_TIMEOUT_S
    ) -> None:
        self.name = without_password(url)
        self._url = parse_address(url)
        self._verify_certificate = verify_certificate
        self._open_timeout_s = open_timeout_s

    def open(self) -> Reader:
        """Request the address, and choose the reader for its content.

        Raises:
            SourceLost: it cannot be opened now; the message gives the reason.
        """
        client = HttpClient(self._url, verify_certificate=self._verify_certificate)
        open_reader = partial(self._open, client)
        return open_within(self._open_timeout_s, self.name, open_reader, client.abort)

    def _open(self, client: HttpClient) -> Reader:
        if not is_resolvable(client.host):
            raise self._lost(unknown_host(client.host))
        try:
            response = client.get()
            if reader := self._reader_of(client, response):
                return reader
        except READ_ERRORS as error:
            client.close()
            raise self._lost(reason_of(error, client.host)) from error
        response.close()
        client.close()
        from edge_daemon.capture.streams import NetworkStream

        url, verify = self._url.geturl(), self._verify_certificate
        return NetworkStream(url, verify_certificate=verify).open()

    def _reader_of(self, client: HttpClient, response: HTTPResponse) -> Reader | None:
        """The reader for a response; None for one that FFmpeg may read.

        Raises:
            SourceLost: it is text.
        """
        content_type = response.headers.get_content_type()
        start = response.peek(8)[:8]
        if content_type.startswith("multipart/") or start.startswith(b"--"):
            boundary = str(response.headers.get_param("boundary", ""))
            return MjpegReader(self.name, client, MultipartReader(response, boundary))
        if content_type.startswith("image/") or start.startswith(JPEG_START):
            return SnapshotReader(self.name, client, response)
        if content_type.startswith("text/") and not start.startswith(PLAYLIST_START):
            response.close()
            client.close()
            raise self._lost(f"not a video, but {content_type}")
        return None

    def _lost(self, reason: str) -> SourceLost:
        return SourceLost(f"{self.name}: {reason}")


class MjpegReader:
    """Reads the images of an MJPEG stream, which come at the sender's pace."""

    def __init__(self, name: str, client: HttpClient, parts: "MultipartReader") -> None:
        self._name = name
        self._client = client
        self._parts = parts
        self._decoder = CameraImageDecoder()

    def read(self) -> CapturedFrame:
        """Wait for the next image that is not damaged.

        Raises:
            SourceLost: none came in time, many were damaged, or the stream ended.
        """
        problem = ""
        for _ in range(MAX_DAMAGED):
            part = self._next()
            try:
                return CapturedFrame(self._decoder.decode(part))
            except ImageError as error:
                problem = error.problem
        raise SourceLost(f"{self._name}: {MAX_DAMAGED} images in a row do not decode: {problem}")

    def skip(self) -> None:
        """Receive the next image and discard it.

        Raises:
            SourceLost: none came in time, or the stream ended.
        """
        self._next()

    def close(self) -> None:
        self._parts.close()
        self._client.close()

    def _next(self) -> bytes:
        try:
            part = self._parts.next_part()
        except READ_ERRORS as error:
            raise SourceLost(f"{self._name}: {reason_of(error, self._client.host)}") from error
        if part is None:
            raise SourceLost(f"{self._name}: the stream ended")
        return part


class CameraImageDecoder:
    """Decodes the images of one camera; a JPEG of another size counts if the next has it, too.

    A damaged header may state a size for which the device lacks memory.
    """

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        self._next_size: tuple[int, int] | None = None

    def decode(self, data: bytes) -> Image:
        """Decode an image to BGR uint8 [H, W, 3].

        Raises:
            ImageError: it is damaged, or the first of another size.
        """
        if not data.startswith(JPEG_START):
            return decode_image(data)
        info = jpeg_info(data)
        if info is not None:
            self._check_size(info)
        return decode_jpeg(data, info)

    def _check_size(self, info: JpegInfo) -> None:
        size = (info.width, info.height)
        is_new = self._size is not None and size not in {self._size, self._next_size}
        self._next_size = size
        if is_new:
            raise ImageError(f"another size ({info.width}x{info.height})")
        self._size = size


class MultipartReader:
    """Splits a multipart response into its parts (RFC 2046, as cameras write it).

    Args:
        response: of which the body is read.
        boundary: as the header names it; cameras add or leave out hyphens, or send another one.
    """

    def __init__(self, response: HTTPResponse, boundary: str) -> None:
        self._response = response
        self._boundary = boundary.strip("\"'- ").encode("latin-1", "replace")
        self._is_at_part = False
        self._has_parts = False

    def next_part(self) -> bytes | None:
        """The content of the next part, which may be empty; None at the end.

        Raises:
            OSError, http.client.HTTPException: the connection failed, or a part is truncated.
        """
        if not self._is_at_part and self._until_boundary() is None:
            return None
        self._is_at_part = False
        length = self._length()
        if length is None:
            part = self._until_boundary()
            self._is_at_part = part is not None
            return part
        if length > MAX_IMAGE_BYTES:
            raise http.client.HTTPException("truncated image")
        return self._response.read(length)

    def close(self) -> None:
        self._response.close()

    def _length(self) -> int | None:
        """Read a part's header; the length that it states, if it does."""
        length = None
        while line := self._response.readline(MAX_LINE_BYTES).strip():
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
        return length

    def _until_boundary(self) -> bytes | None:
        """What comes before the next boundary, which is read too; None if there is none."""
        content = bytearray()
        while line := self._response.readline(MAX_LINE_BYTES):
            if not self._has_parts:
                self._learn_boundary(line)
            if self._is_boundary(line):
                self._has_parts = True
                return bytes(content)
            if (start := self._boundary_behind_image(line)) >= 0:
                return bytes(content + line[:start])
            content += line
            if len(content) > MAX_IMAGE_BYTES:
                raise http.client.HTTPException("truncated image")
        return None

    def _learn_boundary(self, line: bytes) -> None:
        """Before the first part, what looks like a boundary is it, whatever the header names."""
        text = line.strip()
        if text.startswith(b"--") and len(text) < MAX_BOUNDARY_BYTES:
            self._boundary = text.strip(b"-")

    def _boundary_behind_image(self, line: bytes) -> int:
        """Where a boundary begins that follows an image without a line break; -1: nowhere."""
        text = line.rstrip().removesuffix(b"--")  # behind the last part
        boundary = b"--" + self._boundary
        is_behind = bool(self._has_parts and self._boundary) and text.endswith(boundary)
        return len(text) - len(boundary) if is_behind else -1

    def _is_boundary(self, line: bytes) -> bool:
        text = line.strip()
        return (
            bool(text)
            and len(text) < len(self._boundary) + 9
            and text.strip(b"-") == self._boundary
        )


class SnapshotReader:
    """Requests a still image for each frame, over a kept connection.

    Args:
        name: the source's name.
        client: requests the image.
        response: to the first request, with the body still to be read.
    """

    def __init__(self, name: str, client: HttpClient, response: HTTPResponse) -> None:
        self._name = name
        self._client = client
        self._response: HTTPResponse | None = response
        self._decoder = CameraImageDecoder()

    def read(self) -> CapturedFrame:
        """Request the image.

        Raises:
            SourceLost: that failed several times, or the camera does not answer.
        """
        reason = ""
        for _ in range(MAX_FAILED_REQUESTS):
            try:
                return CapturedFrame(self._decoder.decode(self._body()))
            except ImageError as error:
                reason = error.problem
            except READ_ERRORS as error:
                self._client.close()
                reason = reason_of(error, self._client.host)
                if isinstance(error, TimeoutError):  # the next would exceed `capture.read_timeout`
                    break
        raise SourceLost(f"{self._name}: {reason}")

    def close(self) -> None:
        self._client.close()

    def _body(self) -> bytes:
        response, self._response = self._response or self._client.get(), None
        with contextlib.closing(response):
            body = response.read(MAX_IMAGE_BYTES)
            if response.read(1):
                raise http.client.HTTPException("truncated image")
            return body
