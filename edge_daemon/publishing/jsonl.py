"""Results as lines of JSON on a stream, one for each frame."""

import os
from pathlib import Path
from typing import BinaryIO

from edge_daemon._lib.clock import Clock
from edge_daemon.errors import OutputClosed
from edge_daemon.records import FrameResult
from edge_daemon.schema import faces_payload


class JsonLines:
    """The last step of the pipeline, which writes to a stream and flushes each line."""

    def __init__(self, stream: BinaryIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    def __call__(self, result: FrameResult) -> None:
        write_line(self._stream, faces_payload(result, self._clock))


def write_line(stream: BinaryIO, line: bytes) -> None:
    """Write a line and flush it.

    Raises:
        OutputClosed: the reader of the stream has closed it.
    """
    try:
        stream.write(line + b"\n")
        stream.flush()
    except BrokenPipeError as error:
        raise OutputClosed("the reader of the output has closed it") from error


def discard(stream: BinaryIO) -> None:
    """Redirect the stream to nowhere, so that its buffer does not fail again at exit."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
