"""Threads, and how work goes from one to the next. No other file of this package starts a thread.

A `Pipeline` is a capture worker, a chain of stages, and services beside them, each in one named
thread. A `Mailbox` of one slot stands between two neighbours. The thread that calls `run`
supervises: it ends everything when a worker fails, when one is stuck, or when it is told to stop.
Watchers look at the pipeline from there.
"""

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, Generic, Protocol, TypeVar

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.errors import EdgeDaemonError, PipelineError, in_one_line

logger = logging.getLogger(__name__)

T = TypeVar("T")

Step = Callable[[Any], Any]
"""Takes one item, returns the next stage's item."""

SUPERVISION_INTERVAL: Final = 0.25
"""Seconds between two looks for stuck workers."""

STOP_TIMEOUT: Final = 1.5
"""Seconds in which all threads are to end; a process is to be gone 2 s after SIGTERM."""

MAX_HUNG_READERS: Final = 2
"""Capture threads that may be lost in a read that never returns, before the process gives up."""


MOST_IN_A_ROW: Final = 10
"""Frames that may fail one after the other."""

TELLING_INTERVAL: Final = 60.0
"""Seconds between two lines in the log at least."""


def in_a_row(steps: Sequence[Step]) -> Step:
    """Steps as one."""

    def all_steps(item: Any) -> Any:  # noqa: ANN401  # whatever the stages hand on
        for step in steps:
            item = step(item)
        return item

    return all_steps


def in_thread(name: str, call: Callable[[], T]) -> Future[T]:
    """Make a call in a thread of its own, to leave it behind if it hangs for too long."""
    future: Future[T] = Future()

    def fulfil() -> None:
        try:
            outcome = call()
        except Exception as error:  # noqa: BLE001  # it is for whoever asks for the outcome
            future.set_exception(error)
        else:
            future.set_result(outcome)

    threading.Thread(target=fulfil, name=name, daemon=True).start()
    return future


class Closed(Exception):
    """Raised when a mailbox has no more items and never will."""


class Mailbox(Generic[T]):
    """Hands the newest item from one thread to another.

    Either the latest wins (a full slot is overwritten, and the loss counted), or, when
    `lossless`, the sender waits until the slot is free.
    """

    def __init__(self, *, lossless: bool) -> None:
        self.dropped = 0
        self._lossless = lossless
        self._slot: list[T] = []
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Leave an item. Does nothing once the mailbox is closed."""
        with self._changed:
            if self._lossless:
                self._changed.wait_for(lambda: not self._slot or self._closed)
            if self._closed:
                return
            self.dropped += len(self._slot)
            self._slot[:] = [item]
            self._changed.notify_all()

    def get(self) -> T:
        """Wait for an item and take it.

        Raises:
            Closed: the mailbox is closed, and the last item is taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._slot or self._closed)
            if not self._slot:
                raise Closed
            self._changed.notify_all()
            return self._slot.pop()

    def close(self, *, discard: bool = False) -> None:
        """Let no more items in; with `discard`, forget the one that waits."""
        with self._changed:
            self._closed = True
            if discard:
                self._slot.clear()
            self._changed.notify_all()


class Mishaps:
    """How often a stage failed. Written by its thread; `count` is for any to read."""

    def __init__(self, stage: str, clock: Clock) -> None:
        self.count = 0
        self._stage = stage
        self._clock = clock
        self._in_a_row = 0
        self._told_at = float("-inf")

    def note(self, error: Exception) -> None:
        """A frame failed.

        Raises:
            PipelineError: too many did, one after the other.
        """
        self.count += 1
        self._in_a_row += 1
        if self._in_a_row >= MOST_IN_A_ROW:
            raise PipelineError(
                f"{self._stage} failed with {self._in_a_row} frames in a row: {in_one_line(error)}"
            ) from error
        now = self._clock.monotonic()
        if now - self._told_at >= TELLING_INTERVAL:
            self._told_at = now
            logger.error(  # where it was raised is for whoever looks for a bug
                "a frame is left out, its stage failed",
                extra={"stage": self._stage, "error": in_one_line(error), "count": self.count},
                exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
            )

    def overcome(self) -> None:
        """A frame went through."""
        self._in_a_row = 0


class Worker:
    """One supervised thread. `failure` holds what ended it, if not its work's end."""

    def __init__(self, name: str, clock: Clock, stuck_after: float | None = None) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self._clock = clock
        self._stuck_after = stuck_after
        self._busy_since: float | None = None
        self._busy_seconds = 0.0
        self._thread: threading.Thread | None = None

    def start(self, ended: Callable[["Worker"], None]) -> None:
        """Start the thread; its last act is to call `ended`."""
        # A thread hung in a driver's call must not keep the process from ending: hence daemon.
        self._thread = threading.Thread(
            target=self._main, args=(ended,), name=self.name, daemon=True
        )
        self._thread.start()

    def work(self) -> None:
        """What the thread does, until it returns."""
        raise NotImplementedError

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Marks a call that must come back within the limit; waiting for others is not busy."""
        self._busy_since = since = self._clock.monotonic()
        try:
            yield
        finally:
            self._busy_since = None
            self._busy_seconds += self._clock.monotonic() - since

    def busy_seconds(self) -> float:
        """Seconds in such calls in all, the one under way included."""
        since = self._busy_since
        under_way = 0.0 if since is None else self._clock.monotonic() - since
        return self._busy_seconds + under_way

    def busy_for(self) -> float:
        """Seconds in one call that has a limit; 0 outside of those."""
        since = self._busy_since
        if since is None or self._stuck_after is None:
            return 0.0
        return self._clock.monotonic() - since

    def stuck_for(self) -> float | None:
        """Seconds in one call, once that is longer than the limit; else None."""
        age = self.busy_for()
        return age if self._stuck_after is not None and age > self._stuck_after else None

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout))

    def raise_failure(self) -> None:
        """Raise what ended the work, if it was not its end.

        Raises:
            EdgeDaemonError: as it was raised, or a PipelineError that names any other exception.
        """
        if isinstance(self.failure, EdgeDaemonError):
            raise self.failure
        if self.failure is not None:
            raise PipelineError(
                f"{self.name} failed: {in_one_line(self.failure)}"
            ) from self.failure

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _main(self, ended: Callable[["Worker"], None]) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001  # the supervisor must hear of it
            self.failure = error
        finally:
            ended(self)


class Stage(Worker):
    """Takes items from one mailbox, sends each through its steps, and passes the outcome on.

    With `mishaps`, it leaves out an item with which a step fails, unless that was on purpose.
    """

    def __init__(
        self,
        name: str,
        steps: Sequence[Step],
        *,
        inbox: Mailbox[Any],
        outbox: Mailbox[Any] | None,
        clock: Clock,
        stuck_after: float | None,
        mishaps: Mishaps | None,
    ) -> None:
        super().__init__(name, clock, stuck_after)
        self.finished = 0
        """Items that went through all steps."""
        self.mishaps = mishaps
        self._work = in_a_row(steps)
        self._inbox = inbox
        self._outbox = outbox

    def work(self) -> None:
        try:
            while True:
                item = self._inbox.get()
                if self.mishaps is None:
                    self._pass_on(item)
                else:
                    self._try_to_pass_on(item, self.mishaps)
        except Closed:
            if self._outbox is not None:
                self._outbox.close()

    def _pass_on(self, item: Any) -> None:  # noqa: ANN401  # whatever the stages hand on
        with self.busy():
            item = self._work(item)
        self.finished += 1
        if self._outbox is not None:
            self._outbox.put(item)

    def _try_to_pass_on(self, item: Any, mishaps: Mishaps) -> None:  # noqa: ANN401  # likewise
        try:
            self._pass_on(item)
        except EdgeDaemonError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a library comes up with
            mishaps.note(error)
        else:
            mishaps.overcome()


class Capture(Protocol):
    """Fills the first mailbox (see `edge_daemon.capture.loop`)."""

    live: bool
    """Whether frames come at the world's pace, so that late ones are dropped."""
    name: str

    def run(self, put: Callable[[Any], None], busy: Callable[[], Any]) -> None:
        """Put frames until the end or `abandon`; each call that may hang goes in `busy()`."""
        ...

    def successor(self) -> "Capture":
        """A fresh one that goes on where this one is stuck."""
        ...

    def abandon(self) -> None:
        """End soon, put nothing more; called from another thread."""
        ...


class CaptureWorker(Worker):
    """Runs a capture in its thread."""

    def __init__(
        self, name: str, capture: Capture, outbox: Mailbox[Any], clock: Clock, stuck_after: float
    ) -> None:
        super().__init__(name, clock, stuck_after)
        self.capture = capture
        self._outbox = outbox
        self._abandoned = False

    def work(self) -> None:
        try:
            self.capture.run(self._outbox.put, self.busy)
        finally:
            if not self._abandoned:
                self._outbox.close()

    def abandon(self) -> None:
        self._abandoned = True
        self.capture.abandon()


class Service(Protocol):
    """Something that runs beside the stages, such as a connection."""

    name: str

    def run(self) -> None:
        """Serve until `stop` is called."""
        ...

    def stop(self) -> None:
        """Finish what is under way and return from `run`; called from another thread."""
        ...


class ServiceWorker(Worker):
    """Runs a service in its thread."""

    def __init__(self, service: Service, clock: Clock) -> None:
        super().__init__(service.name, clock)
        self.service = service

    def work(self) -> None:
        self.service.run()


class Watcher(Protocol):
    """Looks at a pipeline in its supervisor's thread, where it must be quick and never raise."""

    def look(self, pipeline: "Pipeline") -> None:
        """Called several times a second, as long as no worker has failed."""
        ...

    def stopping(self) -> None:
        """Called once, when the pipeline is about to end."""
        ...


class Pipeline:
    """A capture, stages in a row, and services, run and supervised together.

    Args:
        capture: where the items come from; when it is not live, no mailbox drops anything.
        stages: for each stage, in order, its name and its steps; the last outcome is discarded.
        services: what runs beside the stages.
        watchers: what looks at it from time to time.
        read_timeout: seconds in one read or opening of the source, after which it is hung.
        step_timeout: seconds that one item may take in a stage, after which it is stuck.
        unhurried: names of stages that may wait for others without being stuck.
        forgiving: names of stages that leave out a live item with which they fail; of a source
            that is not live each item counts, and one that fails ends the run.
        clock: where the time is read.
    """

    def __init__(
        self,
        capture: Capture,
        stages: Sequence[tuple[str, Sequence[Step]]],
        services: Sequence[Service] = (),
        watchers: Sequence[Watcher] = (),
        *,
        read_timeout: float = 10.0,
        step_timeout: float = 30.0,
        unhurried: frozenset[str] = frozenset(),
        forgiving: frozenset[str] = frozenset(),
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._read_timeout = read_timeout
        self._watchers = watchers
        self._notices: queue.SimpleQueue[Worker | Callable[[], None] | None] = queue.SimpleQueue()
        self.mailboxes = {name: Mailbox[Any](lossless=not capture.live) for name, _ in stages}
        boxes = list(self.mailboxes.values())
        self._stages = [
            Stage(
                name,
                steps,
                inbox=inbox,
                outbox=outbox,
                clock=self._clock,
                stuck_after=None if name in unhurried else step_timeout,
                mishaps=Mishaps(name, self._clock) if capture.live and name in forgiving else None,
            )
            for (name, steps), inbox, outbox in itertools.zip_longest(stages, boxes, boxes[1:])
        ]
        self._services = [ServiceWorker(service, self._clock) for service in services]
        self._capture = self._capture_worker("capture", capture)
        self._hung: list[CaptureWorker] = []

    def run(self) -> None:
        """Run until the source ends or `stop` is called, then end every thread.

        Raises:
            PipelineError: a worker died or got stuck, or reads hang again and again.
            EdgeDaemonError: what a worker raised on purpose, as it was raised.
        """
        try:
            for worker in [*self._services, *self._stages, self._capture]:
                worker.start(self._notices.put)
            self._supervise()
        finally:
            self._stop_all()

    def stop(self) -> None:
        """Ask `run` to end. May be called from a signal handler (SimpleQueue.put is re-entrant)."""
        self._notices.put(None)

    def call(self, errand: Callable[[], None]) -> None:
        """Have the supervisor make a quick call. May be called from a signal handler, too."""
        self._notices.put(errand)

    def survivors(self) -> list[str]:
        """Names of the threads that are still running."""
        return [worker.name for worker in self._workers() if worker.alive]

    @property
    def dropped(self) -> dict[str, int]:
        """How many items each stage left out: a newer one overtook them, or the stage failed."""
        failed = {stage.name: stage.mishaps.count for stage in self._stages if stage.mishaps}
        return {name: box.dropped + failed.get(name, 0) for name, box in self.mailboxes.items()}

    @property
    def finished(self) -> int:
        """How many items went through all stages."""
        return self._stages[-1].finished

    @property
    def busy_for(self) -> dict[str, float]:
        """Seconds that each stage has spent on the item it has in hand; 0 where it may wait."""
        return {stage.name: stage.busy_for() for stage in self._stages}

    @property
    def busy_seconds(self) -> dict[str, float]:
        """Seconds that each stage has worked in all."""
        return {stage.name: stage.busy_seconds() for stage in self._stages}

    def _workers(self) -> list[Worker]:
        return [*self._hung, self._capture, *self._stages, *self._services]

    def _capture_worker(self, name: str, capture: Capture) -> CaptureWorker:
        first = next(iter(self.mailboxes.values()))
        return CaptureWorker(name, capture, first, self._clock, self._read_timeout)

    def _supervise(self) -> None:
        while True:
            try:
                notice = self._notices.get(timeout=SUPERVISION_INTERVAL)
            except queue.Empty:
                self._look_for_stuck_workers()
                for watcher in self._watchers:
                    watcher.look(self)
                continue
            if notice is None:
                return
            if not isinstance(notice, Worker):
                notice()
            elif self._ends_with(notice):
                return

    def _ends_with(self, worker: Worker) -> bool:
        """Whether all is over now that this worker has ended.

        Raises:
            EdgeDaemonError: it should not have ended, or not like this.
        """
        if isinstance(worker, Stage | ServiceWorker):
            worker.raise_failure()
        if isinstance(worker, ServiceWorker):
            raise PipelineError(f"{worker.name} ended by itself, this is a bug")
        if worker is not self._stages[-1]:
            return False
        # All that the source gave is through; now its own failure, if any, may be told.
        # It is known once the thread has ended, a moment after its mailbox closed.
        self._capture.join(STOP_TIMEOUT)
        self._capture.raise_failure()
        return True

    def _look_for_stuck_workers(self) -> None:
        for stage in self._stages:
            if age := stage.stuck_for():
                raise PipelineError(f"stage {stage.name}: stuck with one frame for {age:.0f} s")
        if age := self._capture.stuck_for():
            self._replace_capture(age)

    def _replace_capture(self, age: float) -> None:
        """Leave a hung reader behind, and read the source with a fresh one."""
        stuck = self._capture
        hung = [worker for worker in self._hung if worker.alive]
        if not stuck.capture.live or len(hung) >= MAX_HUNG_READERS:
            raise PipelineError(
                f"{stuck.capture.name}: no answer for {age:.0f} s, {len(hung) + 1} reads hang; "
                "check the device and its cable"
            )
        stuck.abandon()
        self._hung = [*hung, stuck]
        logger.warning(
            "read hangs, opening the source again",
            extra={"source": stuck.capture.name, "seconds": round(age, 1)},
        )
        name = f"capture-{len(self._hung) + 1}"
        self._capture = self._capture_worker(name, stuck.capture.successor())
        self._capture.start(self._notices.put)

    def _stop_all(self) -> None:
        deadline = self._clock.monotonic() + STOP_TIMEOUT
        for watcher in self._watchers:
            watcher.stopping()
        self._capture.abandon()
        for mailbox in self.mailboxes.values():
            mailbox.close(discard=True)
        for service in self._services:
            service.service.stop()
        for worker in self._workers():
            worker.join(deadline - self._clock.monotonic())
        if survivors := self.survivors():
            logger.error("threads still run at exit, this is a bug", extra={"threads": survivors})
