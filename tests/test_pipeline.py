import threading
import time
from collections.abc import Callable, Iterator

import pytest
from running import PATIENCE, STOP_LIMIT_WITH_WAITS

from edge_daemon._lib.http_server import SHUTDOWN_TIMEOUT_S
from edge_daemon.errors import PipelineError, PreviewError, SourceError
from edge_daemon.pipeline import (
    FINISH_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Busy,
    Chain,
    Pipeline,
    Service,
    Stage,
    compose,
    fan_out,
    in_thread,
)
from edge_daemon.publishing.event_writer import STOP_TIMEOUT_S as WRITER_STOP_TIMEOUT_S
from edge_daemon.publishing.publisher import DISCONNECT_TIMEOUT_S


class Counting:
    """A capture of the numbers below `end`, then of `failure`, if any."""

    def __init__(
        self, end: int | None = None, *, live: bool = False, failure: Exception | None = None
    ) -> None:
        self.is_live = live
        self.name = "counting"
        self.abandoned = threading.Event()
        self._end = end
        self._failure = failure

    def run(self, put: Callable[[int], None], busy: Busy) -> None:
        number = 0
        while number != self._end and not self.abandoned.is_set():
            with busy:
                time.sleep(0.001)
            put(number)
            number += 1
        if self._failure is not None:
            raise self._failure

    def restarted(self) -> "Counting":
        return self

    def abandon(self) -> None:
        self.abandoned.set()


class Hanging(Counting):
    """Hangs until it has been restarted `hangs` times; then gives one item."""

    def __init__(self, released: threading.Event, hangs: int, *, live: bool = True) -> None:
        super().__init__(live=live)
        self._released = released
        self._hangs = hangs

    def run(self, put: Callable[[int], None], busy: Busy) -> None:
        if self._hangs > 0:
            with busy:
                self._released.wait()
        put(self._hangs)

    def restarted(self) -> "Hanging":
        return Hanging(self._released, self._hangs - 1)


@pytest.fixture
def _short_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only a moment for a stage that hangs at the end."""
    monkeypatch.setattr("edge_daemon.pipeline.FINISH_TIMEOUT_S", 0.1)


def ignore(_: int) -> None:
    """A step without effect."""


def keep(step: Callable[[int], object] = ignore, **options: object) -> Chain[int, object]:
    return Chain.of(Stage("keep", step, **options))  # type: ignore[arg-type]


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Ends hanging calls, at the latest when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_pipeline_file_passes_every_item_through_all_steps() -> None:
    seen: list[int] = []
    double = compose(lambda n: n + 1, lambda n: 2 * n)
    pipeline = Pipeline(
        Counting(50), Chain.of(Stage("double", double)).then(Stage("keep", seen.append))
    )
    pipeline.run()
    assert seen == [2 * (number + 1) for number in range(50)]
    assert pipeline.dropped == {"double": 0, "keep": 0}
    assert pipeline.running_threads() == []


def test_pipeline_live_source_drops_items_of_a_slow_stage() -> None:
    seen: list[int] = []
    all_put = threading.Event()

    class Ending(Counting):
        def run(self, put: Callable[[int], None], busy: Busy) -> None:
            super().run(put, busy)
            all_put.set()

    def keep_slowly(number: int) -> None:
        assert all_put.wait(PATIENCE)
        seen.append(number)

    pipeline = Pipeline(Ending(100, live=True), keep(keep_slowly))
    pipeline.run()
    assert seen == sorted(set(seen))
    assert seen[-1] == 99
    assert pipeline.dropped["keep"] == 100 - len(seen) >= 98


def test_fan_out_passes_each_item_to_all_sinks_in_order() -> None:
    seen: list[tuple[str, int]] = []
    step = fan_out([lambda n: seen.append(("first", n)), lambda n: seen.append(("second", n))])
    step(7)
    assert seen == [("first", 7), ("second", 7)]


def test_stage_failure_of_a_file_ends_the_pipeline() -> None:
    def fail(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError("nought")
        return number

    pipeline = Pipeline(Counting(), Chain.of(Stage("fail", fail)).then(Stage("keep", ignore)))
    with pytest.raises(PipelineError, match=r"^fail failed: ZeroDivisionError: nought") as caught:
        pipeline.run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert pipeline.running_threads() == []


def test_capture_failure_lets_earlier_items_pass() -> None:
    seen: list[int] = []
    pipeline = Pipeline(Counting(20, failure=SourceError("cut")), keep(seen.append))
    with pytest.raises(SourceError, match=r"^cut$"):
        pipeline.run()
    assert seen == list(range(20))


def test_stop_limits_fit_into_two_seconds() -> None:
    """The stops themselves are measured with a reserve for a busy machine."""
    assert FINISH_TIMEOUT_S < STOP_TIMEOUT_S < 2
    limits = (DISCONNECT_TIMEOUT_S, WRITER_STOP_TIMEOUT_S, SHUTDOWN_TIMEOUT_S)
    assert FINISH_TIMEOUT_S + max(limits) <= STOP_TIMEOUT_S + 1e-9


def test_stop_ends_all_threads_soon() -> None:
    pipeline = Pipeline(Counting(live=True), keep())
    threading.Timer(0.1, pipeline.stop).start()
    began = time.monotonic()
    pipeline.run()
    assert time.monotonic() - began < STOP_LIMIT_WITH_WAITS
    assert pipeline.running_threads() == []


@pytest.mark.parametrize("failure", [None, SourceError("cut")])
def test_finish_runs_after_the_last_item(failure: Exception | None) -> None:
    seen: list[object] = []
    chain = keep(seen.append, finish=lambda: seen.append(threading.current_thread().name))
    pipeline = Pipeline(Counting(3, failure=failure), chain)
    if failure is None:
        pipeline.run()
    else:
        with pytest.raises(SourceError):
            pipeline.run()
    assert seen == [0, 1, 2, "keep"]


def test_finish_runs_before_services_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FINISH_TIMEOUT_S", "STOP_TIMEOUT_S"):
        monkeypatch.setattr(f"edge_daemon.pipeline.{name}", PATIENCE)
    service = Waiting()
    states: list[bool] = []
    chain = keep(finish=lambda: (time.sleep(0.05), states.append(service.stopped.is_set())))
    pipeline = Pipeline(Counting(live=True), chain, [service])
    threading.Timer(0.1, pipeline.stop).start()
    pipeline.run()
    assert states == [False]
    assert service.stopped.is_set()


@pytest.mark.usefixtures("_short_end")
def test_stuck_stage_ends_the_pipeline(
    released: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    chain = Chain.of(Stage("stuck", lambda _: released.wait(), timeout_s=0.1))
    pipeline = Pipeline(Counting(live=True), chain)
    with pytest.raises(PipelineError, match="stuck"):
        pipeline.run()
    assert pipeline.running_threads() == ["stuck"]
    (record,) = caplog.records
    assert (record.msg, record.threads) == ("hung threads abandoned at exit", ["stuck"])


@pytest.mark.usefixtures("_short_end")
def test_stuck_stage_ends_the_pipeline_despite_frequent_calls(released: threading.Event) -> None:
    chain = Chain.of(Stage("stuck", lambda _: released.wait(), timeout_s=0.1))
    pipeline = Pipeline(Counting(3), chain)

    def call_again() -> None:
        time.sleep(0.01)
        pipeline.call_soon(call_again)

    pipeline.call_soon(call_again)
    with pytest.raises(PipelineError, match="stuck"):
        pipeline.run()


def test_stage_without_timeout_is_never_stuck() -> None:
    Pipeline(Counting(2), keep(lambda _: time.sleep(0.4), timeout_s=None)).run()


def test_stalled_read_restarts_the_capture(released: threading.Event) -> None:
    seen: list[int] = []
    watcher = Polling(99, at_end=released.set)
    pipeline = Pipeline(
        Hanging(released, hangs=2), keep(seen.append), watchers=[watcher], read_timeout_s=0.1
    )
    pipeline.run()
    assert seen == [0]


@pytest.mark.usefixtures("_short_end")
def test_stalled_reads_are_limited(
    released: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = Pipeline(Hanging(released, hangs=9), keep(), read_timeout_s=0.1)
    with pytest.raises(PipelineError, match="3 stalled reads"):
        pipeline.run()
    captures = ["capture", "capture-2", "capture-3"]
    assert sorted(pipeline.running_threads()) == captures
    end = caplog.records[-1]
    assert (end.levelname, end.msg) == ("WARNING", "hung threads abandoned at exit")
    assert sorted(end.threads) == captures


@pytest.mark.usefixtures("_short_end")
def test_stalled_read_of_a_file_ends_the_pipeline(released: threading.Event) -> None:
    pipeline = Pipeline(Hanging(released, hangs=1, live=False), keep(), read_timeout_s=0.1)
    with pytest.raises(PipelineError, match="1 stalled reads"):
        pipeline.run()


class Waiting(Service):
    """A service that waits until it is stopped."""

    name = "waiting"

    def __init__(
        self, failure: BaseException | None = None, *, is_failure_fatal: bool = True
    ) -> None:
        self.is_failure_fatal = is_failure_fatal
        self.stopped = threading.Event()
        self._failure = failure

    def run(self, busy: Busy) -> None:
        if self._failure is not None:
            raise self._failure
        self.stopped.wait()

    def stop(self) -> None:
        self.stopped.set()


class Stuck(Service):
    """A service that hangs until it is released, in `run` and in `stop`."""

    name = "stuck"
    timeout_s = 0.1

    def __init__(self, released: threading.Event, *, is_hang_fatal: bool) -> None:
        self.is_hang_fatal = is_hang_fatal
        self._released = released
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def run(self, busy: Busy) -> None:
        with busy, self._lock:
            self._released.wait()
        self._stopping.wait()

    def stop(self) -> None:
        with self._lock:
            self._stopping.set()


def test_services_run_and_are_stopped() -> None:
    service = Waiting()
    pipeline = Pipeline(Counting(3), keep(), [service])
    pipeline.run()
    assert service.stopped.is_set()
    assert pipeline.running_threads() == []


def test_service_failure_ends_the_pipeline() -> None:
    service = Waiting(failure=RuntimeError("gone"))
    pipeline = Pipeline(Counting(live=True), keep(), [service])
    with pytest.raises(PipelineError, match=r"^waiting failed: RuntimeError: gone$"):
        pipeline.run()


def test_service_that_returns_early_ends_the_pipeline() -> None:
    service = Waiting()
    service.stop()
    pipeline = Pipeline(Counting(live=True), keep(), [service])
    with pytest.raises(PipelineError, match=r"^waiting ended unexpectedly"):
        pipeline.run()


@pytest.mark.parametrize("failure", [RuntimeError("gone"), SystemExit(1), PreviewError("gone")])
def test_optional_service_failure_is_reported_once(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watcher = Polling(ends_when=lambda watcher: watcher.stuck.count(("waiting",)) == 3)
    service = Waiting(failure, is_failure_fatal=False)
    pipeline = Pipeline(Counting(live=True), keep(), [service], [watcher])
    pipeline.run()
    assert pipeline.finished > 0
    assert watcher.stuck[-3:] == [("waiting",)] * 3
    (record,) = caplog.records
    assert (record.levelname, record.msg) == ("ERROR", "service failed, continuing without it")
    assert record.service == "waiting"
    assert record.exc_info is not None
    assert record.exc_info[1] is failure


def test_optional_service_that_returns_early_is_reported() -> None:
    service = Waiting(is_failure_fatal=False)
    service.stop()
    watcher = Polling(ends_when=lambda watcher: watcher.stuck[-1] == ("waiting",))
    Pipeline(Counting(live=True), keep(), [service], [watcher]).run()


@pytest.mark.usefixtures("_short_end")
def test_stuck_service_ends_the_pipeline_if_that_is_fatal(released: threading.Event) -> None:
    service = Stuck(released, is_hang_fatal=True)
    pipeline = Pipeline(Counting(live=True), keep(), [service])
    with pytest.raises(PipelineError, match=r"^service stuck: stuck for"):
        pipeline.run()
    assert pipeline.running_threads() == ["stuck"]


@pytest.mark.usefixtures("_short_end")
def test_stuck_optional_service_is_reported_once(
    released: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watcher = Polling(ends_when=lambda watcher: watcher.stuck.count(("stuck",)) == 3)
    pipeline = Pipeline(
        Counting(live=True), keep(), [Stuck(released, is_hang_fatal=False)], [watcher]
    )
    pipeline.run()
    assert watcher.stuck[-3:] == [("stuck",)] * 3
    logged = [(record.msg, getattr(record, "service", "")) for record in caplog.records]
    assert logged == [("service stuck", "stuck"), ("hung threads abandoned at exit", "")]


def test_stuck_optional_service_resumes(
    released: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def has_resumed(watcher: Polling) -> bool:
        if ("stuck",) in watcher.stuck:
            released.set()
        return released.is_set() and watcher.stuck[-1] == ()

    watcher = Polling(ends_when=has_resumed)
    pipeline = Pipeline(
        Counting(live=True), keep(), [Stuck(released, is_hang_fatal=False)], [watcher]
    )
    pipeline.run()
    assert watcher.stuck[-1] == pipeline.stuck_services == ()
    assert [record.msg for record in caplog.records] == ["service stuck", "service resumed"]
    assert pipeline.running_threads() == []


def test_stop_with_a_hung_service_ends_soon(released: threading.Event) -> None:
    pipeline = Pipeline(Counting(live=True), keep(), [Stuck(released, is_hang_fatal=False)])
    threading.Timer(0.1, pipeline.stop).start()
    began = time.monotonic()
    pipeline.run()
    assert time.monotonic() - began < STOP_LIMIT_WITH_WAITS
    assert pipeline.running_threads() == ["stuck"]


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_stage_exit_exception_ends_the_pipeline(end: type[BaseException]) -> None:
    def leave(_: int) -> int:
        raise end

    pipeline = Pipeline(
        Counting(live=True), Chain.of(Stage("leave", leave)).then(Stage("keep", ignore))
    )
    with pytest.raises(PipelineError, match=rf"^leave failed: {end.__name__}"):
        pipeline.run()


class Polling:
    """A watcher that records what it sees.

    Args:
        polls: polls after which it ends the pipeline.
        at_end: called when the pipeline ends.
        ends_when: condition on which it ends the pipeline earlier.
    """

    def __init__(
        self,
        polls: int = 99,
        at_end: Callable[[], object] = lambda: None,
        ends_when: "Callable[[Polling], bool]" = lambda _: False,
    ) -> None:
        self.threads: set[str] = set()
        self.finished: list[int] = []
        self.busy: list[dict[str, float]] = []
        self.stuck: list[tuple[str, ...]] = []
        self.stops = 0
        self._polls = polls
        self._at_end = at_end
        self._ends_when = ends_when

    def poll(self, pipeline: Pipeline) -> None:
        self.threads.add(threading.current_thread().name)
        self.finished.append(pipeline.finished)
        self.busy.append(pipeline.current_item_s)
        self.stuck.append(pipeline.stuck_services)
        if len(self.finished) == self._polls or self._ends_when(self):
            pipeline.stop()

    def stopping(self) -> None:
        self.stops += 1
        self._at_end()


def test_watchers_poll_progress_in_the_supervisors_thread() -> None:
    watcher = Polling(ends_when=lambda watcher: len({*watcher.finished} - {0}) == 3)
    chain = Chain.of(Stage("rest", ignore)).then(Stage("keep", lambda _: None))
    pipeline = Pipeline(Counting(live=True), chain, watchers=[watcher])
    pipeline.run()
    assert watcher.threads == {threading.current_thread().name}
    assert watcher.finished == sorted(watcher.finished)
    assert 0 < watcher.finished[-2] < watcher.finished[-1] <= pipeline.finished
    assert all(set(busy) == {"rest", "keep"} for busy in watcher.busy)
    assert watcher.stops == 1


def test_watchers_see_seconds_of_a_stage_with_a_timeout(released: threading.Event) -> None:
    watcher = Polling(at_end=released.set, ends_when=lambda watcher: watcher.busy[-1]["keep"] > 0.5)
    pipeline = Pipeline(Counting(live=True), keep(lambda _: released.wait()), watchers=[watcher])
    began = time.monotonic()
    pipeline.run()
    ages = [busy["keep"] for busy in watcher.busy]
    assert ages == sorted(ages)
    assert 0.5 < ages[-1] < time.monotonic() - began
    waiting = Polling(2)
    chain = keep(lambda _: time.sleep(0.1), timeout_s=None)
    Pipeline(Counting(live=True), chain, watchers=[waiting]).run()
    assert {busy["keep"] for busy in waiting.busy} == {0.0}


def test_watchers_learn_of_the_end_when_a_worker_fails() -> None:
    watcher = Polling(99)
    capture = Counting(3, failure=SourceError("cut"))
    with pytest.raises(SourceError):
        Pipeline(capture, keep(), watchers=[watcher]).run()
    assert watcher.stops == 1


def test_observers_receive_the_duration_of_each_item() -> None:
    seen: list[tuple[str, float]] = []
    pipeline = Pipeline(
        Counting(3),
        keep(lambda _: time.sleep(0.01)),
        observers=[lambda stage, seconds: seen.append((stage, seconds))],
    )
    pipeline.run()
    assert [stage for stage, _ in seen] == ["keep"] * 3
    assert all(seconds >= 0.01 for _, seconds in seen)


def test_call_soon_runs_in_the_supervisors_thread() -> None:
    threads: list[str] = []
    pipeline = Pipeline(Counting(live=True), keep())
    pipeline.call_soon(lambda: threads.append(threading.current_thread().name))
    pipeline.call_soon(pipeline.stop)
    pipeline.run()
    assert threads == [threading.current_thread().name]


@pytest.mark.slow
def test_hundred_runs_leave_no_thread() -> None:
    before = set(threading.enumerate())
    for _ in range(100):
        Pipeline(Counting(2), keep(), [Waiting()]).run()
    assert set(threading.enumerate()) <= before


def test_in_thread_returns_or_raises_as_the_call() -> None:
    name = in_thread("errand", lambda: threading.current_thread().name)
    assert name.result(5) == "errand"
    with pytest.raises(SourceError, match="gone"):
        in_thread("errand", fail).result(5)


def fail() -> None:
    raise SourceError("gone")


def test_in_thread_hanging_call_can_be_abandoned(released: threading.Event) -> None:
    hanging = in_thread("errand", released.wait)
    with pytest.raises(TimeoutError):
        hanging.result(0.05)


class Unlucky:
    """A step that fails on some items."""

    def __init__(self, *fatal: int) -> None:
        self.seen: list[int] = []
        self.calls = 0
        self._fatal = fatal

    def __call__(self, number: int) -> int:
        self.calls += 1
        if number in self._fatal:
            raise ZeroDivisionError(f"{number}\nof many")
        self.seen.append(number)
        return number


class InStep(Counting):
    """A live capture that puts an item once the step has taken the last, so none is dropped."""

    def __init__(self, step: Unlucky, end: int | None = None) -> None:
        super().__init__(end, live=True)
        self._step = step

    def run(self, put: Callable[[int], None], busy: Busy) -> None:
        def put_and_wait(number: int) -> None:
            put(number)
            while self._step.calls <= number and not self.abandoned.wait(0.001):
                pass

        super().run(put_and_wait, busy)


def test_stage_failures_drop_count_and_log_once(caplog: pytest.LogCaptureFixture) -> None:
    step = Unlucky(2, 3, 5)
    pipeline = Pipeline(InStep(step, 8), keep(step, max_failures=10))
    pipeline.run()
    assert step.seen == [0, 1, 4, 6, 7]
    assert pipeline.dropped == {"keep": 3}
    (record,) = caplog.records
    assert (record.levelname, record.stage, record.error, record.count) == (
        "ERROR",
        "keep",
        "ZeroDivisionError: 2 of many",
        1,
    )


def test_stage_consecutive_failures_end_the_pipeline() -> None:
    step = Unlucky(*range(5, 1000))
    with pytest.raises(PipelineError, match=r"^keep failed on 10 consecutive frames: Zero"):
        Pipeline(InStep(step), keep(step, max_failures=10)).run()
    assert step.seen == [0, 1, 2, 3, 4]


def test_stage_failure_of_a_file_ignores_max_failures() -> None:
    with pytest.raises(PipelineError, match=r"^keep failed: ZeroDivisionError: 3 of many$"):
        Pipeline(Counting(8), keep(Unlucky(3), max_failures=10)).run()


def test_stage_own_error_ends_the_pipeline_at_once() -> None:
    chain = keep(lambda _: fail(), max_failures=10)
    with pytest.raises(SourceError, match=r"^gone$"):
        Pipeline(Counting(live=True), chain).run()
