import asyncio
import gc
import time
import weakref
from collections.abc import Callable

import pytest
from preview.serving import seen

from edge_daemon._lib.clock import SystemClock
from edge_daemon.preview import stream as stream_module
from edge_daemon.preview.stream import PreviewStream
from edge_daemon.records import FrameResult

FPS = 50.0

LONG_HEARTBEAT_S = 10.0
"""Interval of heartbeats that no scene reaches, also on a busy machine."""


class FakeEncoder:
    """Records what it encodes."""

    def __init__(self) -> None:
        self.frames: list[int | None] = []
        self.viewers: list[int] = []
        self.while_busy: Callable[[], None] = lambda: None

    def __call__(self, result: FrameResult | None, viewers: int) -> bytes:
        self.while_busy()
        self.frames.append(None if result is None else result.frame.index)
        self.viewers.append(viewers)
        return str(self.frames[-1]).encode()


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def stream(encoder: FakeEncoder) -> PreviewStream:
    return PreviewStream(encoder, FPS, SystemClock())


@pytest.fixture(autouse=True)
def long_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_S", LONG_HEARTBEAT_S)


def in_loop(stream: PreviewStream, scene: Callable[[], object]) -> None:
    """Run a scene in an event loop that the stream is bound to."""

    async def play() -> None:
        with stream.bound():
            async with asyncio.timeout(20):
                await scene()

    asyncio.run(play())


def test_publish_without_viewers_encodes_nothing(
    stream: PreviewStream, encoder: FakeEncoder
) -> None:
    for index in range(100):
        stream.publish(seen(index))
    assert encoder.frames == []


def test_results_without_viewers_are_not_kept(stream: PreviewStream) -> None:
    async def scene() -> None:
        before = seen(0)
        stream.publish(before)
        with stream.viewer():
            visible = seen(1)
            stream.publish(visible)
            await stream.after(0)
        after = seen(2)
        stream.publish(after)
        kept = [weakref.ref(result) for result in (before, visible, after)]
        del before, visible, after
        gc.collect()
        assert [reference() for reference in kept] == [None, None, None]

    in_loop(stream, scene)


def test_first_viewer_gets_a_message_immediately(stream: PreviewStream) -> None:
    async def scene() -> None:
        began = time.monotonic()
        with stream.viewer():
            assert (await stream.after(0)).content == b"None"
        assert time.monotonic() - began < LONG_HEARTBEAT_S / 2

    in_loop(stream, scene)


def test_all_viewers_share_one_encoded_frame(stream: PreviewStream, encoder: FakeEncoder) -> None:
    async def scene() -> None:
        with stream.viewer():
            first = await stream.after(0)
            waiting = [asyncio.create_task(stream.after(first.number)) for _ in range(10)]
            await asyncio.sleep(0)
            stream.publish(seen(1))
            messages = await asyncio.gather(*waiting)
        assert {id(message.content) for message in messages} == {id(messages[0].content)}

    in_loop(stream, scene)
    assert encoder.frames == [None, 1]


def test_message_rate_is_limited_for_all_viewers(
    stream: PreviewStream, encoder: FakeEncoder
) -> None:
    elapsed_s = []

    async def view() -> None:
        number = 0
        while True:
            number = (await stream.after(number)).number

    async def scene() -> None:
        began = time.monotonic()
        with stream.viewer():
            viewers = [asyncio.create_task(view()) for _ in range(10)]
            for index in range(1, 301):
                stream.publish(seen(index))
                await asyncio.sleep(0.003)
            elapsed_s.append(time.monotonic() - began)
            for viewer in viewers:
                viewer.cancel()
            await asyncio.gather(*viewers, return_exceptions=True)

    in_loop(stream, scene)
    assert 5 < len(encoder.frames) <= FPS * elapsed_s[0] + 3


def test_change_during_encoding_waits_for_the_next_message(
    stream: PreviewStream, encoder: FakeEncoder
) -> None:
    encoder.while_busy = stream._outdated.set

    async def scene() -> None:
        with stream.viewer():
            await asyncio.gather(*(stream.after(0) for _ in range(10)))

    in_loop(stream, scene)
    assert encoder.frames == [None]


def test_slow_viewer_gets_the_newest_frame(stream: PreviewStream, encoder: FakeEncoder) -> None:
    async def scene() -> None:
        with stream.viewer():
            slow = await stream.after(0)
            for index in range(1, 30):
                stream.publish(seen(index))
            await asyncio.sleep(0)
            assert (await stream.after(slow.number)).content == b"29"

    in_loop(stream, scene)
    assert encoder.frames == [None, 29]


def test_viewer_behind_others_gets_the_current_message(
    stream: PreviewStream, encoder: FakeEncoder
) -> None:
    async def scene() -> None:
        with stream.viewer():
            behind = await stream.after(0)
            stream.publish(seen(1))
            await asyncio.sleep(0)
            ahead = await stream.after(behind.number)
            assert await stream.after(behind.number) is ahead
            stream.publish(seen(2))
            await asyncio.sleep(2 / FPS)
            assert (await stream.after(behind.number)).content == b"2"

    in_loop(stream, scene)


def test_heartbeat_without_changes(stream: PreviewStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_S", 0.2)

    async def scene() -> None:
        began = time.monotonic()
        with stream.viewer():
            first = await stream.after(0)
            second = await stream.after(first.number)
            assert second.number == first.number + 1
            assert 0.15 < time.monotonic() - began < 5

    in_loop(stream, scene)


def test_notify_wakes_viewers_without_a_frame(stream: PreviewStream, encoder: FakeEncoder) -> None:
    async def scene() -> None:
        with stream.viewer():
            first = await stream.after(0)
            began = time.monotonic()
            waiting = asyncio.create_task(stream.after(first.number))
            await asyncio.to_thread(stream.notify)
            await waiting
            assert time.monotonic() - began < LONG_HEARTBEAT_S / 2

    in_loop(stream, scene)
    assert encoder.frames == [None, None]


def test_later_viewer_gets_no_old_frame(stream: PreviewStream) -> None:
    async def scene() -> None:
        with stream.viewer():
            await stream.after(0)
            stream.publish(seen(1))
            await asyncio.sleep(0)
            assert (await stream.after(1)).content == b"1"
        await asyncio.sleep(2 / FPS)
        with stream.viewer():
            assert (await stream.after(0)).content == b"None"

    in_loop(stream, scene)


def test_encoder_gets_the_number_of_viewers(stream: PreviewStream, encoder: FakeEncoder) -> None:
    async def scene() -> None:
        with stream.viewer(), stream.viewer():
            await stream.after(0)
        assert stream.viewers == 0

    in_loop(stream, scene)
    assert encoder.viewers == [2]


def test_close_ends_waiting(encoder: FakeEncoder) -> None:
    slow = PreviewStream(encoder, 0.01, SystemClock())

    async def scene() -> None:
        with slow.viewer():
            first = await slow.after(0)
            waiting = asyncio.create_task(slow.after(first.number))
            await asyncio.sleep(0)
            slow.close()
            began = time.monotonic()
            await waiting
            assert time.monotonic() - began < LONG_HEARTBEAT_S / 2

    in_loop(slow, scene)


def test_calls_without_an_event_loop_do_nothing(stream: PreviewStream) -> None:
    async def scene() -> None:
        stream.viewers = 1

    in_loop(stream, scene)
    stream.publish(seen(0))
    stream.notify()
    stream.close()
