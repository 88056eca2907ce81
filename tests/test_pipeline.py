import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from edge_daemon.errors import PipelineError, SourceError
from edge_daemon.pipeline import Pipeline, in_thread

Busy = Callable[[], AbstractContextManager[None]]


class Counting:
    """A capture of the numbers below `end`, then of `failure`, if any."""

    def __init__(
        self, end: int | None = None, *, live: bool = False, failure: Exception | None = None
    ) -> None:
        self.live = live
        self.name = "counting"
        self.abandoned = threading.Event()
        self._end = end
        self._failure = failure

    def run(self, put: Callable[[int], None], busy: Busy) -> None:
        number = 0
        while number != self._end and not self.abandoned.is_set():
            with busy():
                time.sleep(0.001)
            put(number)
            number += 1
        if self._failure is not None:
            raise self._failure

    def successor(self) -> "Counting":
        return self

    def abandon(self) -> None:
        self.abandoned.set()


class Hanging(Counting):
    """Hangs in the first `hangs` of a row of successors; the next one gives a frame."""

    def __init__(self, released: threading.Event, hangs: int, *, live: bool = True) -> None:
        super().__init__(live=live)
        self._released = released
        self._hangs = hangs

    def run(self, put: Callable[[int], None], busy: Busy) -> None:
        if self._hangs > 0:
            with busy():
                self._released.wait()
        put(self._hangs)

    def successor(self) -> "Hanging":
        return Hanging(self._released, self._hangs - 1)


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Lets hanging reads go, at the latest when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_every_item_of_a_file_goes_through_all_steps_in_order() -> None:
    seen: list[int] = []
    pipeline = Pipeline(
        Counting(50), [("double", [lambda n: n + 1, lambda n: 2 * n]), ("keep", [seen.append])]
    )
    pipeline.run()
    assert seen == [2 * (number + 1) for number in range(50)]
    assert pipeline.dropped == {"double": 0, "keep": 0}
    assert pipeline.survivors() == []


def test_a_slow_stage_sees_the_newest_of_a_live_source() -> None:
    seen: list[int] = []

    def keep(number: int) -> None:
        time.sleep(0.03)
        seen.append(number)

    pipeline = Pipeline(Counting(100, live=True), [("keep", [keep])])
    pipeline.run()
    assert seen == sorted(seen)
    assert seen[-1] == 99
    assert pipeline.dropped["keep"] == 100 - len(seen) > 50


def test_a_stage_that_dies_ends_the_pipeline_with_its_error() -> None:
    def fail(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError("nought")
        return number

    pipeline = Pipeline(Counting(), [("fail", [fail]), ("keep", [lambda _: None])])
    with pytest.raises(PipelineError, match=r"^fail failed: ZeroDivisionError: nought") as caught:
        pipeline.run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert pipeline.survivors() == []


def test_a_source_that_fails_still_gets_its_items_through() -> None:
    seen: list[int] = []
    pipeline = Pipeline(Counting(20, failure=SourceError("cut")), [("keep", [seen.append])])
    with pytest.raises(SourceError, match=r"^cut$"):
        pipeline.run()
    assert seen == list(range(20))


def test_stop_ends_everything_soon() -> None:
    pipeline = Pipeline(Counting(live=True), [("keep", [lambda _: None])])
    threading.Timer(0.1, pipeline.stop).start()
    began = time.monotonic()
    pipeline.run()
    assert time.monotonic() - began < 2.0
    assert pipeline.survivors() == []


def test_a_stuck_stage_is_an_error(released: threading.Event) -> None:
    pipeline = Pipeline(
        Counting(live=True), [("stuck", [lambda _: released.wait()])], step_timeout=0.1
    )
    with pytest.raises(PipelineError, match="stuck"):
        pipeline.run()
    assert pipeline.survivors() == ["stuck"]


def test_an_unhurried_stage_may_wait_as_long_as_it_likes() -> None:
    pipeline = Pipeline(
        Counting(2),
        [("wait", [lambda _: time.sleep(0.4)])],
        step_timeout=0.1,
        unhurried=frozenset({"wait"}),
    )
    pipeline.run()


def test_a_hung_read_is_left_behind_and_the_source_opened_anew(released: threading.Event) -> None:
    seen: list[int] = []
    pipeline = Pipeline(Hanging(released, hangs=2), [("keep", [seen.append])], read_timeout=0.1)
    threading.Timer(2.0, released.set).start()
    pipeline.run()
    assert seen == [0]


def test_hung_reads_do_not_pile_up(released: threading.Event) -> None:
    pipeline = Pipeline(Hanging(released, hangs=9), [("keep", [lambda _: 0])], read_timeout=0.1)
    with pytest.raises(PipelineError, match="3 reads hang"):
        pipeline.run()
    assert sorted(pipeline.survivors()) == ["capture", "capture-2", "capture-3"]


def test_a_file_that_hangs_is_an_error_at_once(released: threading.Event) -> None:
    pipeline = Pipeline(
        Hanging(released, hangs=1, live=False), [("keep", [lambda _: 0])], read_timeout=0.1
    )
    with pytest.raises(PipelineError, match="1 reads hang"):
        pipeline.run()


class Beside:
    """A service that notes when it was stopped."""

    name = "beside"

    def __init__(self, failure: Exception | None = None) -> None:
        self.stopped = threading.Event()
        self._failure = failure

    def run(self) -> None:
        if self._failure is not None:
            raise self._failure
        self.stopped.wait()

    def stop(self) -> None:
        self.stopped.set()


def test_services_run_beside_the_stages_and_are_stopped() -> None:
    service = Beside()
    pipeline = Pipeline(Counting(3), [("keep", [lambda _: None])], [service])
    pipeline.run()
    assert service.stopped.is_set()
    assert pipeline.survivors() == []


def test_a_service_that_dies_ends_the_pipeline() -> None:
    service = Beside(failure=RuntimeError("gone"))
    pipeline = Pipeline(Counting(live=True), [("keep", [lambda _: None])], [service])
    with pytest.raises(PipelineError, match=r"^beside failed: RuntimeError: gone$"):
        pipeline.run()


def test_a_service_that_ends_by_itself_ends_the_pipeline() -> None:
    service = Beside()
    service.stop()
    pipeline = Pipeline(Counting(live=True), [("keep", [lambda _: None])], [service])
    with pytest.raises(PipelineError, match=r"^beside ended by itself"):
        pipeline.run()


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_stage_that_is_ended_from_within_ends_the_pipeline(end: type[BaseException]) -> None:
    def leave(_: int) -> None:
        raise end

    pipeline = Pipeline(Counting(live=True), [("leave", [leave]), ("keep", [lambda _: None])])
    with pytest.raises(PipelineError, match=rf"^leave failed: {end.__name__}"):
        pipeline.run()


class Looking:
    """A watcher that notes what it sees, and ends the pipeline after some looks."""

    def __init__(self, looks: int) -> None:
        self.threads: set[str] = set()
        self.finished: list[int] = []
        self.busy: list[dict[str, float]] = []
        self.stops = 0
        self._looks = looks

    def look(self, pipeline: Pipeline) -> None:
        self.threads.add(threading.current_thread().name)
        self.finished.append(pipeline.finished)
        self.busy.append(pipeline.busy_for)
        if len(self.finished) == self._looks:
            pipeline.stop()

    def stopping(self) -> None:
        self.stops += 1


def test_watchers_see_how_far_the_stages_are_from_the_supervisors_thread() -> None:
    watcher = Looking(3)
    pipeline = Pipeline(
        Counting(live=True),
        [("rest", [lambda _: None]), ("keep", [lambda _: None])],
        watchers=[watcher],
    )
    pipeline.run()
    assert watcher.threads == {threading.current_thread().name}
    assert 0 < watcher.finished[0] < watcher.finished[-1] <= pipeline.finished
    assert all(set(busy) == {"rest", "keep"} for busy in watcher.busy)
    assert watcher.stops == 1


def test_watchers_see_a_stage_in_one_item_unless_it_may_wait(released: threading.Event) -> None:
    watcher = Looking(4)
    threading.Timer(2.0, released.set).start()
    pipeline = Pipeline(
        Counting(live=True),
        [("stuck", [lambda number: (released.wait(), number)[1]])],
        watchers=[watcher],
    )
    pipeline.run()
    ages = [busy["stuck"] for busy in watcher.busy]
    assert ages == sorted(ages)
    assert 0.5 < ages[-1] < 2.0
    waiting = Looking(2)
    Pipeline(
        Counting(live=True),
        [("wait", [lambda _: time.sleep(0.1)])],
        watchers=[waiting],
        unhurried=frozenset({"wait"}),
    ).run()
    assert {busy["wait"] for busy in waiting.busy} == {0.0}


def test_watchers_are_told_of_the_end_when_a_worker_fails() -> None:
    watcher = Looking(99)
    capture = Counting(3, failure=SourceError("cut"))
    with pytest.raises(SourceError):
        Pipeline(capture, [("keep", [lambda _: None])], watchers=[watcher]).run()
    assert watcher.stops == 1


def test_the_supervisor_makes_calls_for_others() -> None:
    threads: list[str] = []
    pipeline = Pipeline(Counting(live=True), [("keep", [lambda _: None])])
    pipeline.call(lambda: threads.append(threading.current_thread().name))
    pipeline.call(pipeline.stop)
    pipeline.run()
    assert threads == [threading.current_thread().name]


def test_a_hundred_runs_leave_no_thread_behind() -> None:
    before = threading.active_count()
    for _ in range(100):
        Pipeline(Counting(2), [("keep", [lambda _: None])], [Beside()]).run()
    assert threading.active_count() == before


def test_call_in_a_thread_of_its_own_gives_what_it_returns_or_raises() -> None:
    name = in_thread("errand", lambda: threading.current_thread().name)
    assert name.result(5) == "errand"
    with pytest.raises(SourceError, match="gone"):
        in_thread("errand", fail).result(5)


def fail() -> None:
    raise SourceError("gone")


def test_call_that_hangs_can_be_left_behind(released: threading.Event) -> None:
    hanging = in_thread("errand", released.wait)
    with pytest.raises(TimeoutError):
        hanging.result(0.05)


class Unlucky:
    """A step that fails with some items."""

    def __init__(self, *fatal: int) -> None:
        self.seen: list[int] = []
        self._fatal = fatal

    def __call__(self, number: int) -> int:
        if number in self._fatal:
            raise ZeroDivisionError(f"{number}\nof many")
        self.seen.append(number)
        return number


def forgiving(step: Unlucky, capture: Counting) -> Pipeline:
    return Pipeline(capture, [("try", [step])], forgiving=frozenset({"try"}))


class Unhurried(Counting):
    """A live capture whose every item is seen."""

    def run(self, put: Callable[[int], None], busy: Busy) -> None:
        super().run(lambda number: (put(number), time.sleep(0.005)), busy)


def test_live_items_with_which_a_stage_fails_are_left_out_counted_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    step = Unlucky(2, 3, 5)
    pipeline = forgiving(step, Unhurried(8, live=True))
    pipeline.run()
    assert step.seen == [0, 1, 4, 6, 7]
    assert pipeline.dropped == {"try": 3}
    (told,) = caplog.records
    assert (told.levelname, told.stage, told.error, told.count) == (
        "ERROR",
        "try",
        "ZeroDivisionError: 2 of many",
        1,
    )


def test_stage_that_fails_with_item_after_item_ends_the_pipeline() -> None:
    step = Unlucky(*range(5, 1000))
    with pytest.raises(PipelineError, match=r"^try failed with 10 frames in a row: Zero"):
        forgiving(step, Unhurried(live=True)).run()
    assert step.seen == [0, 1, 2, 3, 4]


def test_item_of_a_file_with_which_a_stage_fails_ends_the_pipeline() -> None:
    with pytest.raises(PipelineError, match=r"^try failed: ZeroDivisionError: 3 of many$"):
        forgiving(Unlucky(3), Counting(8)).run()


def test_what_a_stage_raises_on_purpose_ends_the_pipeline_at_once() -> None:
    pipeline = Pipeline(
        Counting(live=True), [("fail", [lambda _: fail()])], forgiving=frozenset({"fail"})
    )
    with pytest.raises(SourceError, match=r"^gone$"):
        pipeline.run()
