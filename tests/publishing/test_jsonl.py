import io

import pytest
from builders import probabilities, result
from conftest import FakeClock

from edge_daemon.errors import OutputClosed, OutputError
from edge_daemon.publishing import JsonLines
from edge_daemon.schema import FacesMessage, faces_payload


class Recorded(io.BytesIO):
    """Notes what had been written whenever it was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[bytes] = []

    def flush(self) -> None:
        self.flushed.append(self.getvalue())


def test_each_result_is_a_line_flushed_at_once(clock: FakeClock) -> None:
    stream = Recorded()
    publish = JsonLines(stream, clock)
    first, second = result(0.0, {1: probabilities(happy=0.9)}), result(0.1, {})
    publish(first)
    publish(second)
    lines = [faces_payload(one, clock) + b"\n" for one in (first, second)]
    assert stream.flushed == [lines[0], lines[0] + lines[1]]
    for line in stream.getvalue().splitlines():
        FacesMessage.model_validate_json(line)


def test_jsonl_closed_reader_ends_normally(clock: FakeClock) -> None:
    class Broken(io.BytesIO):
        def write(self, _data: object) -> int:
            raise BrokenPipeError

    with pytest.raises(OutputClosed) as closed:
        JsonLines(Broken(), clock)(result(0.0, {}))
    assert closed.value.exit_code == 0


def test_stream_that_cannot_be_written_is_no_end_in_good_order(clock: FakeClock) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space"):
        JsonLines(Full(), clock)(result(0.0, {}))
