"""Live frames from a network stream that FFmpeg decodes: RTSP, and video over HTTP."""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from av.error import (
    ExitError,
    FFmpegError,
    HTTPForbiddenError,
    HTTPNotFoundError,
    HTTPUnauthorizedError,
    InvalidDataError,
)
from av.video.frame import VideoFrame

from edge_daemon._lib.text import without_password
from edge_daemon.capture.base import CapturedFrame, Reader, SourceKind
from edge_daemon.capture.network import (
    NETWORK_TIMEOUT_S,
    OPEN_TIMEOUT_S,
    HttpStatusError,
    certificate_file,
    is_resolvable,
    open_within,
    parse_address,
    reason_of,
    unknown_host,
)
from edge_daemon.capture.video_decoding import NoVideo, VideoDecoder, open_container
from edge_daemon.errors import SourceLost

STATUS_OF: Final[Mapping[type[FFmpegError], int]] = MappingProxyType(
    {HTTPUnauthorizedError: 401, HTTPForbiddenError: 403, HTTPNotFoundError: 404}
)

RTSP_OPTIONS: Final = MappingProxyType({"rtsp_flags": "prefer_tcp"})
"""TCP first: over Wi-Fi, UDP loses packets, which damages frames. UDP where a camera refuses it."""


class NetworkStream:
    """A camera at an `rtsp://` address, or a video stream at an `http://` one.

    Args:
        url: its address, with user name and password if the camera asks for them.
        verify_certificate: whether the server of an encrypted stream must have a trusted one.
        open_timeout_s: limit on opening.

    Raises:
        SourceError: the address does not parse.
    """

    kind = SourceKind.CAMERA
    is_live = True

    def __init__(
        self, url: str, *, verify_certificate: bool = True, open_timeout_s: float = OPEN_TIMEOUT_S
    ) -> None:
        self.name = without_password(url)
        self._open_timeout_s = open_timeout_s
        parts = parse_address(url)
        self._host = parts.hostname or ""
        self._url = parts.geturl()
        self._options = dict(RTSP_OPTIONS) if parts.scheme.startswith("rtsp") else {}
        if parts.scheme in {"rtsps", "https"}:
            self._options["tls_verify"] = str(int(verify_certificate))
            if file := certificate_file():
                self._options["ca_file"] = file

    def open(self) -> Reader:
        """Connect, and wait for what describes the stream.

        Raises:
            SourceLost: it cannot be opened now; the message gives the reason.
        """
        # FFmpeg has time limits of its own, after which an abandoned opening ends.
        return open_within(self._open_timeout_s, self.name, self._open, abort=lambda: None)

    def _open(self) -> "StreamReader":
        if not is_resolvable(self._host):
            raise SourceLost(f"{self.name}: {unknown_host(self._host)}")
        timeout = (NETWORK_TIMEOUT_S, NETWORK_TIMEOUT_S)
        started = time.monotonic()
        try:
            container = open_container(self._url, self._options, timeout)
        except FFmpegError as error:
            # FFmpeg reports a camera that never answers as one that sends nonsense.
            in_time = time.monotonic() - started < NETWORK_TIMEOUT_S
            reason = _reason_of_opening(error) if in_time else reason_of(TimeoutError(), self._host)
            raise SourceLost(f"{self.name}: {reason}") from error
        try:
            return StreamReader(self.name, VideoDecoder(container))
        except NoVideo as error:
            container.close()
            raise SourceLost(f"{self.name}: not a video: {error}; check the address") from error


class StreamReader:
    """Reads a stream, whose frames come at the sender's pace."""

    def __init__(self, name: str, decoder: VideoDecoder) -> None:
        self._name = name
        self._decoder = decoder

    def read(self) -> CapturedFrame:
        """Wait for the next frame.

        Raises:
            SourceLost: none came in time, or the stream ended.
        """
        return CapturedFrame(self._decoder.to_bgr(self._next()))

    def skip(self) -> None:
        """Decode the next frame, on which later ones build, without converting it.

        Raises:
            SourceLost: none came in time, or the stream ended.
        """
        self._next()

    def close(self) -> None:
        self._decoder.close()

    def _next(self) -> VideoFrame:
        try:
            frame = self._decoder.read()
        except FFmpegError as error:
            raise SourceLost(f"{self._name}: {_reason_of(error)}") from error
        if frame is None:
            raise SourceLost(f"{self._name}: the stream ended")
        return frame


def _reason_of_opening(error: FFmpegError) -> str:
    if isinstance(error, InvalidDataError):
        return "not a video, or in an unsupported format"
    return _reason_of(error)


def _reason_of(error: FFmpegError) -> str:
    """PyAV's messages hold the whole address, so only `strerror` is shown."""
    if isinstance(error, ExitError):  # its time limits interrupt FFmpeg
        return reason_of(TimeoutError(), "")
    status = STATUS_OF.get(type(error))
    return reason_of(error if status is None else HttpStatusError(status), "")
