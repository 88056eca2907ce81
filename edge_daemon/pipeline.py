"""Threads, the mailboxes between them, and their supervision.

No other module of this package starts a thread. A `Pipeline` runs a capture, a chain of stages and
services, each in one named daemon thread, with a `Mailbox` in front of each stage. The thread that
calls `Pipeline.run` supervises them: it ends the pipeline when a worker fails or hangs, or when
`stop` is called. Watchers are polled from there.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.errors import EdgeDaemonError, PipelineError, in_one_line

logger = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
In = TypeVar("In")
Out = TypeVar("Out")
Next = TypeVar("Next")

SUPERVISION_INTERVAL_S: Final = 0.25

STOP_TIMEOUT_S: Final = 1.5
"""Limit on joining all threads; the process must exit within 2 s of SIGTERM."""

FINISH_TIMEOUT_S: Final = 0.4
"""Part of STOP_TIMEOUT_S for the last stage to publish its last item, before services stop."""

MAX_STALLED_CAPTURES: Final = 2
"""Capture threads that can hang in the driver before the pipeline ends."""

FAILURE_LOG_INTERVAL_S: Final = 60.0
"""Minimum time between two log lines about failures of one stage."""

DEFAULT_TIMEOUT_S: Final = 30.0

BackPressure = Literal["block", "drop"]
"""What a full mailbox does: block the sender, or drop the older item."""

Busy = AbstractContextManager[None]
"""Marks a call that can hang, so that its duration is limited. Reusable, but calls do not nest."""

StageObserver = Callable[[str, float], None]
"""Receives a stage's name and the seconds that an item took, in the stage's thread."""

Sink = Callable[[T], object]
"""Takes the last items of a pipeline; what it returns is ignored."""


def compose(first: Callable[[In], T], second: Callable[[T], Out]) -> Callable[[In], Out]:
    """Join two steps to one that applies `first`, then `second`."""

    def composed(item: In) -> Out:
        return second(first(item))

    return composed


def fan_out(sinks: Sequence[Sink[T]]) -> Callable[[T], None]:
    """Join sinks to one step that passes each item to all of them, in order."""

    def pass_on(item: T) -> None:
        for sink in sinks:
            sink(item)

    return pass_on


def in_thread(name: str, call: Callable[[], T]) -> Future[T]:
    """Run a call in its own daemon thread, which the caller can abandon if it hangs."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            outcome = call()
        except Exception as error:  # noqa: BLE001  # the future passes it on
            future.set_exception(error)
        else:
            future.set_result(outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


class Closed(Exception):
    """Raised when a mailbox is closed and empty."""


class Mailbox(Generic[T]):
    """Passes items from one thread to another, through one slot.

    Args:
        back_pressure: what `put` does while the slot is full: `block` until it is free, or `drop`
            the item in it.
    """

    def __init__(self, back_pressure: BackPressure) -> None:
        self.dropped = 0
        self._blocks = back_pressure == "block"
        self._slot: list[T] = []
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Add an item. Does nothing once the mailbox is closed."""
        with self._changed:
            while self._blocks and self._slot and not self._closed:
                self._changed.wait()
            if self._closed:
                return
            self.dropped += len(self._slot)
            self._slot[:] = [item]
            self._changed.notify_all()

    def get(self) -> T:
        """Wait for an item and remove it.

        Raises:
            Closed: the mailbox is closed and empty.
        """
        with self._changed:
            while not self._slot:
                if self._closed:
                    raise Closed
                self._changed.wait()
            self._changed.notify_all()
            return self._slot.pop()

    def close(self, *, discard: bool = False) -> None:
        """Accept no more items; with `discard`, also drop the waiting one."""
        with self._changed:
            self._closed = True
            if discard:
                self._slot.clear()
            self._changed.notify_all()


@dataclass(frozen=True)
class Stage(Generic[In, Out]):
    """One step of the pipeline, which runs in its own thread."""

    name: str
    step: Callable[[In], Out]
    """Processes one item and returns the next stage's item."""
    timeout_s: float | None = DEFAULT_TIMEOUT_S
    """Limit on the time for one item, after which the stage is stuck; None: unlimited."""
    max_failures: int = 1
    """Consecutive items of a live capture that fail, until the pipeline ends. Those before are
    dropped. Of a capture that is not live, the first failure ends the pipeline."""
    finish: Callable[[], None] | None = None
    """Called in the stage's thread after its last item, unless the stage itself fails or hangs."""


@dataclass(frozen=True)
class Chain(Generic[In, Out]):
    """Stages in order, whose types fit: `Chain.of(first).then(second).then(third)`."""

    stages: tuple[Stage[Any, Any], ...]

    @classmethod
    def of(cls, stage: Stage[T, Next]) -> "Chain[T, Next]":
        """A chain of one stage."""
        return Chain((stage,))

    def then(self, stage: Stage[Out, Next]) -> "Chain[In, Next]":
        """This chain, and one more stage that takes its output."""
        return Chain((*self.stages, stage))


class Capture(Protocol[T_co]):
    """The source of items (see `edge_daemon.capture.loop`)."""

    is_live: bool
    """Whether items come in real time. Full mailboxes then drop items; else they block."""
    name: str

    def run(self, put: Callable[[T_co], None], busy: Busy) -> None:
        """Put items until the source ends or `abandon` is called; mark hanging calls `busy`."""
        ...

    def restarted(self) -> "Capture[T_co]":
        """A new capture of the same source, to continue in place of this one, which is stalled."""
        ...

    def abandon(self) -> None:
        """Stop soon, and put nothing more. Called from another thread."""
        ...


class Service(Protocol):
    """Something that runs next to the stages, such as a connection. Inherit for the defaults."""

    name: str
    timeout_s: float | None = DEFAULT_TIMEOUT_S
    """Limit on one busy call, after which the service is stuck; None: unlimited."""
    is_hang_fatal: bool = True
    """Whether the pipeline ends when the service is stuck; else it only reports that, since the
    service can resume."""
    is_failure_fatal: bool = True
    """Whether the pipeline ends when the service fails; else it reports that, and continues."""

    def run(self, busy: Busy) -> None:
        """Serve until `stop` is called. Mark each call that can hang: `with busy: ...`.

        Such calls do not nest. Waiting for work is not busy.
        """
        ...

    def stop(self) -> None:
        """Make `run` return soon. Called from another thread."""
        ...


class Watcher(Protocol):
    """Observes a pipeline from the supervisor's thread. It must be quick and never raise.

    Inherit for the default.
    """

    def poll(self, pipeline: "Pipeline") -> None:
        """Called about four times a second while no worker has failed."""
        ...

    def stopping(self) -> None:
        """Called once, before the pipeline ends. Does nothing by default."""
        return


class BusyTimer(AbstractContextManager[None]):
    """Measures calls that can hang. Used by one thread, read by any; calls do not nest."""

    def __init__(self, clock: Clock) -> None:
        self.last_s = 0.0
        """Duration of the last finished call, in seconds."""
        self._clock = clock
        self._total_s = 0.0
        self._since: float | None = None

    def __enter__(self) -> None:
        self._since = self._clock.monotonic()

    def __exit__(self, *_: object) -> None:
        since, self._since = self._since, None
        if since is not None:
            self.last_s = self._clock.monotonic() - since
            self._total_s += self.last_s

    @property
    def current_s(self) -> float:
        """Seconds in the call in progress; 0 without one."""
        since = self._since
        return 0.0 if since is None else self._clock.monotonic() - since

    @property
    def total_s(self) -> float:
        """Seconds in all calls, including the one in progress."""
        return self._total_s + self.current_s


class Worker:
    """One supervised thread; `failure` is the exception that ended it, if any."""

    def __init__(self, name: str, clock: Clock, timeout_s: float | None) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self.busy = BusyTimer(clock)
        self._timeout_s = timeout_s
        self._thread: threading.Thread | None = None

    def start(self, on_end: Callable[[], None] | None = None) -> None:
        """Start the thread, which calls `on_end` last."""
        # A daemon thread, since one that hangs in a driver must not keep the process alive.
        self._thread = threading.Thread(
            target=self._main, args=(on_end,), name=self.name, daemon=True
        )
        self._thread.start()

    def work(self) -> None:
        """Run in the thread until there is no more work."""
        raise NotImplementedError

    @property
    def limited_busy_s(self) -> float:
        """Seconds in the busy call in progress, if such calls have a time limit; else 0."""
        return 0.0 if self._timeout_s is None else self.busy.current_s

    @property
    def is_stuck(self) -> bool:
        """Whether a busy call exceeds its time limit."""
        return self._timeout_s is not None and self.busy.current_s > self._timeout_s

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end, for a limited time."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def raise_failure(self) -> None:
        """Raise the exception that ended the thread, if any.

        Raises:
            EdgeDaemonError: as the thread raised it, or a PipelineError for any other exception.
        """
        if isinstance(self.failure, EdgeDaemonError):
            raise self.failure
        if self.failure is not None:
            raise PipelineError(
                f"{self.name} failed: {in_one_line(self.failure)}"
            ) from self.failure

    def _main(self, on_end: Callable[[], None] | None) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001  # the supervisor raises it
            self.failure = error
        finally:
            if on_end is not None:
                on_end()


class StageFailures:
    """Counts a stage's failed items, and ends the stage after too many consecutive ones."""

    def __init__(self, stage: str, max_consecutive: int, clock: Clock) -> None:
        self.count = 0
        """Dropped items. Written by the stage's thread, read by any."""
        self.consecutive = 0
        """Items that failed since the last one that did not."""
        self._stage = stage
        self._max_consecutive = max_consecutive
        self._clock = clock
        self._logged_at = float("-inf")

    def record(self, error: Exception) -> None:
        """Count a failed item.

        Raises:
            PipelineError: too many consecutive items failed.
            Exception: the error itself, if no item may fail.
        """
        if self._max_consecutive <= 1:
            raise error
        self.count += 1
        self.consecutive += 1
        if self.consecutive >= self._max_consecutive:
            raise PipelineError(
                f"{self._stage} failed on {self.consecutive} consecutive frames: "
                f"{in_one_line(error)}"
            ) from error
        now = self._clock.monotonic()
        if now - self._logged_at >= FAILURE_LOG_INTERVAL_S:
            self._logged_at = now
            logger.error(
                "stage failed, frame dropped",
                extra={"stage": self._stage, "error": in_one_line(error), "count": self.count},
                exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
            )

    def reset(self) -> None:
        """Note an item that did not fail."""
        self.consecutive = 0


class StageWorker(Worker):
    """Takes items from a mailbox, applies a stage's step, and puts the results into the next."""

    def __init__(
        self,
        stage: Stage[Any, Any],
        input_mailbox: Mailbox[Any],
        output_mailbox: Mailbox[Any] | None,
        *,
        max_failures: int,
        observers: Sequence[StageObserver],
        clock: Clock,
    ) -> None:
        super().__init__(stage.name, clock, stage.timeout_s)
        self.finished = 0
        """Items that the step has processed."""
        self.failures = StageFailures(stage.name, max_failures, clock)
        self._stage = stage
        self._input = input_mailbox
        self._output = output_mailbox
        self._observers = observers

    def work(self) -> None:
        try:
            self._process_all()
        except Closed:
            if self._stage.finish is not None:
                with self.busy:
                    self._stage.finish()
            if self._output is not None:
                self._output.close()

    def _process_all(self) -> None:
        """Process items until the mailbox is closed and empty, which raises Closed."""
        while True:
            item = self._input.get()
            try:
                with self.busy:
                    result = self._stage.step(item)
            except EdgeDaemonError:
                raise
            except Exception as error:  # noqa: BLE001  # libraries raise all kinds
                self.failures.record(error)
                continue
            if self.failures.consecutive:
                self.failures.reset()
            self.finished += 1
            for observe in self._observers:
                observe(self.name, self.busy.last_s)
            if self._output is not None:
                self._output.put(result)


class CaptureWorker(Worker):
    """Runs a capture."""

    def __init__(
        self,
        name: str,
        capture: Capture[T],
        output_mailbox: Mailbox[T],
        clock: Clock,
        timeout_s: float,
    ) -> None:
        super().__init__(name, clock, timeout_s)
        self.capture: Capture[Any] = capture
        self._output = output_mailbox
        self._abandoned = False

    def work(self) -> None:
        try:
            self.capture.run(self._output.put, self.busy)
        finally:
            if not self._abandoned:
                self._output.close()

    def abandon(self) -> None:
        self._abandoned = True
        self.capture.abandon()


class ServiceWorker(Worker):
    """Runs a service."""

    def __init__(self, service: Service, clock: Clock) -> None:
        super().__init__(service.name, clock, service.timeout_s)
        self.service = service

    def work(self) -> None:
        self.service.run(self.busy)


class Pipeline:
    """A capture, a chain of stages and services, run and supervised together.

    Args:
        capture: the source of items.
        chain: what processes them; the last stage's results are discarded.
        services: what runs next to the stages.
        watchers: what observes the pipeline.
        read_timeout_s: limit on one read or opening of the source, after which it is stalled.
        observers: what receives the duration of each item in each stage.
        clock: the clock to use; None: the system's.
    """

    def __init__(
        self,
        capture: Capture[In],
        chain: Chain[In, Any],
        services: Sequence[Service] = (),
        watchers: Sequence[Watcher] = (),
        *,
        read_timeout_s: float = 10.0,
        observers: Sequence[StageObserver] = (),
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._read_timeout_s = read_timeout_s
        self._watchers = watchers
        self._checked_at = self._clock.monotonic()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        """From other threads and signal handlers, for the supervisor."""
        self._has_ended = False
        back_pressure: BackPressure = "drop" if capture.is_live else "block"
        self.mailboxes = {stage.name: Mailbox[Any](back_pressure) for stage in chain.stages}
        inputs = list(self.mailboxes.values())
        outputs = [*inputs[1:], None]
        self._stages = [
            StageWorker(
                stage,
                input_mailbox,
                output_mailbox,
                max_failures=stage.max_failures if capture.is_live else 1,
                observers=observers,
                clock=self._clock,
            )
            for stage, input_mailbox, output_mailbox in zip(
                chain.stages, inputs, outputs, strict=True
            )
        ]
        self._services = [ServiceWorker(service, self._clock) for service in services]
        self._stuck_services: set[str] = set()
        self._failed_services: set[str] = set()
        self._capture = self._capture_worker("capture", capture)
        self._stalled: list[CaptureWorker] = []

    def run(self) -> None:
        """Run until the source ends or `stop` is called, then end every thread.

        Raises:
            PipelineError: a worker failed or is stuck, or reads hang repeatedly.
            EdgeDaemonError: as a worker raised it.
        """
        try:
            for service in self._services:
                service.start(partial(self.call_soon, self._handle_ended_service, service))
            for stage in self._stages:
                stage.start(partial(self.call_soon, self._handle_ended_stage, stage))
            self._capture.start()  # at its end, it closes the first mailbox, and so ends the stages
            self._supervise()
        finally:
            self._stop_all()

    def stop(self) -> None:
        """Make `run` return. Safe in a signal handler."""
        self.call_soon(self._end)

    def call_soon(self, callback: Callable[..., None], *args: object) -> None:
        """Call back from the supervisor's thread. Safe in a signal handler.

        SimpleQueue.put is re-entrant.
        """
        self._calls.put(partial(callback, *args))

    def running_threads(self) -> list[str]:
        """Names of the threads that are alive."""
        return [worker.name for worker in self._workers() if worker.is_alive]

    @property
    def dropped(self) -> dict[str, int]:
        """Items that did not pass each stage: a newer one replaced them, or the stage failed."""
        return {
            stage.name: self.mailboxes[stage.name].dropped + stage.failures.count
            for stage in self._stages
        }

    @property
    def finished(self) -> int:
        """Items that passed all stages."""
        return self._stages[-1].finished

    @property
    def stuck_services(self) -> tuple[str, ...]:
        """Names of the services that are stuck or have failed, where that is not fatal."""
        return tuple(sorted(self._stuck_services | self._failed_services))

    @property
    def current_item_s(self) -> dict[str, float]:
        """Seconds that each stage has spent on its current item; 0 without a time limit."""
        return {stage.name: stage.limited_busy_s for stage in self._stages}

    @property
    def busy_total_s(self) -> dict[str, float]:
        """Seconds that each stage has been busy in total."""
        return {stage.name: stage.busy.total_s for stage in self._stages}

    def _workers(self) -> list[Worker]:
        return [*self._stalled, self._capture, *self._stages, *self._services]

    def _capture_worker(self, name: str, capture: Capture[Any]) -> CaptureWorker:
        first = next(iter(self.mailboxes.values()))
        return CaptureWorker(name, capture, first, self._clock, self._read_timeout_s)

    def _supervise(self) -> None:
        while not self._has_ended:
            # Calls can arrive faster than the interval, as by signals, and must not delay this.
            if self._clock.monotonic() - self._checked_at >= SUPERVISION_INTERVAL_S:
                self._check()
            try:
                call = self._calls.get(timeout=SUPERVISION_INTERVAL_S)
            except queue.Empty:
                self._check()
            else:
                call()

    def _end(self) -> None:
        self._has_ended = True

    def _check(self) -> None:
        self._checked_at = self._clock.monotonic()
        self._check_workers()
        for watcher in self._watchers:
            watcher.poll(self)

    def _handle_ended_stage(self, worker: StageWorker) -> None:
        """End the pipeline with its last stage.

        Raises:
            EdgeDaemonError: the stage failed.
        """
        worker.raise_failure()
        if worker is self._stages[-1]:
            # All items have passed; now report the capture's own failure, if any.
            # It is set when the thread ends, shortly after its mailbox closes.
            self._capture.join(STOP_TIMEOUT_S)
            self._capture.raise_failure()
            self._end()

    def _handle_ended_service(self, worker: ServiceWorker) -> None:
        """Note that a service has ended.

        Raises:
            EdgeDaemonError: its failure is fatal.
        """
        if worker.service.is_failure_fatal:
            worker.raise_failure()
            raise PipelineError(f"{worker.name} ended unexpectedly, this is a bug")
        self._failed_services.add(worker.name)
        reason = "ended unexpectedly" if worker.failure is None else in_one_line(worker.failure)
        logger.error(
            "service failed, continuing without it",
            extra={"service": worker.name, "error": reason},
            exc_info=worker.failure,
        )

    def _check_workers(self) -> None:
        """Find workers that are stuck.

        Raises:
            PipelineError: one is, and that is fatal.
        """
        for stage in self._stages:
            if stage.is_stuck:
                raise PipelineError(
                    f"stage {stage.name}: stuck on one frame for {stage.busy.current_s:.0f} s"
                )
        for worker in self._services:
            if worker.name not in self._failed_services:
                self._check_service(worker)
        if self._capture.is_stuck:
            self._restart_capture()

    def _check_service(self, worker: ServiceWorker) -> None:
        """Log when the service is stuck and when it resumes.

        Raises:
            PipelineError: it is stuck, and that is fatal.
        """
        seconds = round(worker.busy.current_s, 1)
        if worker.is_stuck:
            if worker.service.is_hang_fatal:
                raise PipelineError(f"service {worker.name}: stuck for {seconds:.0f} s")
            if worker.name not in self._stuck_services:
                self._stuck_services.add(worker.name)
                logger.error("service stuck", extra={"service": worker.name, "seconds": seconds})
        elif worker.name in self._stuck_services:
            self._stuck_services.remove(worker.name)
            logger.info("service resumed", extra={"service": worker.name})

    def _restart_capture(self) -> None:
        """Abandon the stalled capture, and read the source with a new one."""
        stuck = self._capture
        seconds = stuck.busy.current_s
        stalled = [worker for worker in self._stalled if worker.is_alive]
        if not stuck.capture.is_live or len(stalled) >= MAX_STALLED_CAPTURES:
            raise PipelineError(
                f"{stuck.capture.name}: no response for {seconds:.0f} s, "
                f"{len(stalled) + 1} stalled reads; check the device and its cable"
            )
        stuck.abandon()
        self._stalled = [*stalled, stuck]
        logger.warning(
            "capture stalled, restarting",
            extra={"source": stuck.capture.name, "seconds": round(seconds, 1)},
        )
        name = f"capture-{len(self._stalled) + 1}"
        self._capture = self._capture_worker(name, stuck.capture.restarted())
        self._capture.start()

    def _stop_all(self) -> None:
        began = self._clock.monotonic()
        for watcher in self._watchers:
            watcher.stopping()
        self._capture.abandon()
        for mailbox in self.mailboxes.values():
            mailbox.close(discard=True)
        self._stages[-1].join(FINISH_TIMEOUT_S)
        # Each in its own thread, since a hung service can hold a lock that `stop` waits for.
        stops = [
            threading.Thread(target=worker.service.stop, name=f"stop-{worker.name}", daemon=True)
            for worker in self._services
        ]
        for thread in stops:
            thread.start()
        joins: list[Callable[[float], None]] = [worker.join for worker in self._workers()]
        joins += [thread.join for thread in stops]
        for join in joins:
            join(max(0.0, began + STOP_TIMEOUT_S - self._clock.monotonic()))
        self._log_running_threads()

    def _log_running_threads(self) -> None:
        """Log the threads that did not end: those that hang in a call, and others, by mistake."""
        running = [worker for worker in self._workers() if worker.is_alive]
        if hung := [worker.name for worker in running if worker.busy.current_s > 0]:
            logger.warning("hung threads abandoned at exit", extra={"threads": hung})
        if others := [worker.name for worker in running if worker.name not in hung]:
            logger.error("threads did not stop", extra={"threads": others})
