import asyncio
import gc
import time
import weakref
from collections.abc import Callable

import pytest
from preview.serving import seen

from edge_daemon._lib.clock import SystemClock
from edge_daemon.preview import stream as stream_module
from edge_daemon.preview.stream import Message, Stream
from edge_daemon.records import FrameResult

FPS = 50.0


class Described:
    """Notes what was described, in place of the JSON and the JPEG."""

    def __init__(self) -> None:
        self.frames: list[int | None] = []
        self.watchers: list[int] = []
        self.while_busy: Callable[[], None] = lambda: None

    def __call__(self, result: FrameResult | None, watchers: int) -> bytes:
        self.while_busy()
        self.frames.append(None if result is None else result.frame.index)
        self.watchers.append(watchers)
        return str(self.frames[-1]).encode()


@pytest.fixture
def described() -> Described:
    return Described()


@pytest.fixture
def stream(described: Described) -> Stream:
    return Stream(described, FPS, SystemClock())


def in_loop(stream: Stream, scene: Callable[[], object]) -> None:
    """Play a scene in an event loop that the stream is bound to."""

    async def play() -> None:
        with stream.bound():
            async with asyncio.timeout(20):
                await scene()

    asyncio.run(play())


def test_step_passes_results_on_and_nothing_is_described_while_nobody_watches(
    stream: Stream, described: Described
) -> None:
    for index in range(100):
        result = seen(index)
        assert stream(result) is result
    assert described.frames == []


def test_no_picture_is_kept_while_nobody_watches(stream: Stream) -> None:
    async def scene() -> None:
        before = seen(0)
        stream(before)
        with stream.watched():
            watched = seen(1)
            stream(watched)
            await stream.after(0)
        after = seen(2)
        stream(after)
        kept = [weakref.ref(result) for result in (before, watched, after)]
        del before, watched, after
        gc.collect()
        assert [reference() for reference in kept] == [None, None, None]

    in_loop(stream, scene)


def test_first_watcher_is_told_at_once_how_things_are(stream: Stream) -> None:
    async def scene() -> None:
        began = time.monotonic()
        with stream.watched():
            assert (await stream.after(0)).content == b"None"
        assert time.monotonic() - began < stream_module.HEARTBEAT / 2

    in_loop(stream, scene)


def test_ten_watchers_get_the_same_message_which_is_made_once(
    stream: Stream, described: Described
) -> None:
    async def scene() -> None:
        with stream.watched():
            first = await stream.after(0)
            waiting = [asyncio.create_task(stream.after(first.number)) for _ in range(10)]
            await asyncio.sleep(0)
            stream(seen(1))
            messages = await asyncio.gather(*waiting)
        assert {id(message.content) for message in messages} == {id(messages[0].content)}

    in_loop(stream, scene)
    assert described.frames == [None, 1]


def test_messages_are_made_no_faster_than_wanted_however_many_ask(
    stream: Stream, described: Described
) -> None:
    async def watch(until: float) -> None:
        number = 0
        while time.monotonic() < until:
            number = (await stream.after(number)).number

    async def scene() -> None:
        until = time.monotonic() + 1.0
        with stream.watched():
            watchers = [asyncio.create_task(watch(until)) for _ in range(10)]
            index = 0
            while time.monotonic() < until:
                stream(seen(index := index + 1))
                await asyncio.sleep(0.001)
            await asyncio.gather(*watchers)
        assert index > 2 * FPS

    in_loop(stream, scene)
    assert 5 < len(described.frames) <= FPS + 3


def test_news_that_come_while_a_message_is_made_wait_for_the_next(
    stream: Stream, described: Described
) -> None:
    described.while_busy = stream._news.set

    async def scene() -> None:
        with stream.watched():
            await asyncio.gather(*(stream.after(0) for _ in range(10)))

    in_loop(stream, scene)
    assert described.frames == [None]


def test_whoever_asks_late_gets_the_newest(stream: Stream, described: Described) -> None:
    async def scene() -> None:
        with stream.watched():
            slow = await stream.after(0)
            for index in range(1, 30):
                stream(seen(index))
            await asyncio.sleep(0)
            assert (await stream.after(slow.number)).content == b"29"

    in_loop(stream, scene)
    assert described.frames == [None, 29]


def test_watcher_that_is_behind_gets_what_others_had_unless_there_is_newer(
    stream: Stream, described: Described
) -> None:
    async def scene() -> None:
        with stream.watched():
            behind = await stream.after(0)
            stream(seen(1))
            await asyncio.sleep(0)
            ahead = await stream.after(behind.number)
            assert await stream.after(behind.number) is ahead
            stream(seen(2))
            await asyncio.sleep(2 / FPS)
            assert (await stream.after(behind.number)).content == b"2"

    in_loop(stream, scene)


def test_without_news_watchers_are_told_now_and_then(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT", 0.2)

    async def scene() -> None:
        with stream.watched():
            first = await stream.after(0)
            began = time.monotonic()
            second = await stream.after(first.number)
            assert second.number == first.number + 1
            assert 0.15 < time.monotonic() - began < 5

    in_loop(stream, scene)


def test_news_without_a_frame_are_told_at_once(stream: Stream, described: Described) -> None:
    async def scene() -> None:
        with stream.watched():
            first = await stream.after(0)
            began = time.monotonic()
            waiting = asyncio.create_task(stream.after(first.number))
            await asyncio.to_thread(stream.tell)
            await waiting
            assert time.monotonic() - began < stream_module.HEARTBEAT / 2

    in_loop(stream, scene)
    assert described.frames == [None, None]


def test_message_that_was_seen_before_is_shown_to_nobody_who_comes_later(stream: Stream) -> None:
    async def scene() -> None:
        with stream.watched():
            await stream.after(0)
            stream(seen(1))
            await asyncio.sleep(0)
            assert (await stream.after(1)).content == b"1"
        await asyncio.sleep(2 / FPS)
        with stream.watched():
            assert (await stream.after(0)).content == b"None"

    in_loop(stream, scene)


def test_number_of_watchers_is_told(stream: Stream, described: Described) -> None:
    async def scene() -> None:
        with stream.watched(), stream.watched():
            await stream.after(0)
        assert stream.watchers == 0

    in_loop(stream, scene)
    assert described.watchers == [2]


def test_close_lets_nobody_wait(described: Described) -> None:
    slow = Stream(described, 0.01, SystemClock())

    async def scene() -> Message:
        with slow.watched():
            first = await slow.after(0)
            waiting = asyncio.create_task(slow.after(first.number))
            await asyncio.sleep(0)
            slow.close()
            began = time.monotonic()
            await waiting
            assert time.monotonic() - began < stream_module.HEARTBEAT / 2

    in_loop(slow, scene)


def test_without_an_event_loop_results_and_news_are_taken_all_the_same(stream: Stream) -> None:
    async def scene() -> None:
        stream.watchers = 1

    in_loop(stream, scene)
    stream(seen(0))
    stream.tell()
    stream.close()
