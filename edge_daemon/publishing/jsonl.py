"""Results as lines of JSON on a stream: one a frame."""

from typing import BinaryIO

from edge_daemon.clock import Clock
from edge_daemon.errors import OutputClosed
from edge_daemon.publishing.messages import faces_payload
from edge_daemon.records import FrameResult


class JsonLines:
    """The publishing step that writes to a stream, flushed line by line."""

    def __init__(self, stream: BinaryIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    def __call__(self, result: FrameResult) -> None:
        try:
            self._stream.write(faces_payload(result, self._clock) + b"\n")
            self._stream.flush()
        except BrokenPipeError as error:
            raise OutputClosed("the reader of the output has gone") from error
