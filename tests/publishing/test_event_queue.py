"""The event queue in memory, with its writer where a test needs the disk."""

import json
import threading
import time
from pathlib import Path

from builders import event
from conftest import FakeClock
from publishing.fixtures import DROPPING, DURABLE, EMPTY, NOT_DURABLE, Disk, Logs, events_in
from running import PATIENCE

from edge_daemon.publishing.event_queue import (
    DISK_TIMEOUT_S,
    MAX_NEW,
    MAX_WINDOW,
    RECOVERY_S,
    EventQueue,
)
from edge_daemon.publishing.event_writer import SYNC_INTERVAL_S, QueueLimits


def append(queue: EventQueue, *numbers: int) -> None:
    for number in numbers:
        queue.append(event(number=number), 12.345)


def delivered(queue: EventQueue) -> list[int]:
    """Sequence numbers of what the sender can deliver now."""
    sequences = []
    while (entry := queue.head()) is not None:
        sequences.append(entry.sequence)
        queue.remove(entry.sequence)
    return sequences


def logged_sequences(logs: Logs) -> list[object]:
    """Sequence numbers of the events in the log."""
    return [fields["sequence"] for fields in logs.of("event") if "event_id" in fields]


def test_queue_event_saved_becomes_head(tmp_path: Path) -> None:
    with events_in(tmp_path) as events:
        append(events.queue, 7)
        assert events.queue.head() is None
        events.writer.step()
        head = events.queue.head()
        assert head is not None
        payload = json.loads(head.payload)
    assert (payload["sequence"], payload["latency_ms"], payload["schema"]) == (1, 12.3, 1)


def test_queue_events_delivered_in_order(tmp_path: Path) -> None:
    with events_in(tmp_path) as events:
        assert events.add(7, 8, 9) == [1, 2, 3]
        assert events.queue.depth == 3
        assert events.deliver() == [7, 8, 9]
        assert events.queue.depth == 0


def test_queue_many_events_loaded_in_windows(tmp_path: Path) -> None:
    count = 3 * MAX_WINDOW + 7
    with events_in(tmp_path) as events:
        for first in range(0, count, MAX_NEW):
            events.add(*range(first, min(count, first + MAX_NEW)))
        assert events.deliver() == list(range(count))
        events.add(*range(count, count + 5))
        assert events.deliver() == list(range(count, count + 5))
        assert events.queue.status().dropped == 0


def test_queue_head_dropped_in_flight_is_not_removed_twice(
    tmp_path: Path, clock: FakeClock
) -> None:
    with events_in(tmp_path, QueueLimits(2, 1e9), clock) as events:
        events.add(1)
        head = events.queue.head()
        assert head is not None
        events.add(2, 3)
        events.step()
        events.queue.remove(head.sequence)
        assert events.deliver() == [2, 3]
        assert (events.queue.depth, events.queue.status().dropped) == (0, 1)


def test_queue_event_refused_is_dropped_and_counted(tmp_path: Path) -> None:
    with events_in(tmp_path) as events:
        events.add(1, 2)
        events.queue.remove(1, is_dropped=True)
        assert events.deliver() == [2]
        assert events.queue.status().dropped == 1


def test_queue_failing_disk_delivers_from_memory(clock: FakeClock, logs: Logs) -> None:
    queue = EventQueue(clock, lambda: None)
    append(queue, 1, 2)
    queue.report_disk("disk full")
    append(queue, 3)
    assert not queue.is_durable
    assert delivered(queue) == [1, 2, 3]
    assert logged_sequences(logs) == [1, 2, 3]
    queue.report_disk(None)
    clock.seconds += RECOVERY_S
    queue.report_disk(None)
    assert logs.of(NOT_DURABLE)[0]["error"] == "disk full"
    assert len(logs.of(DURABLE)) == 1


def test_queue_hanging_disk_is_not_durable_and_delivers(clock: FakeClock, logs: Logs) -> None:
    queue = EventQueue(clock, lambda: None)
    queue.report_disk(None)
    with queue.disk_access():
        append(queue, 1)
        assert queue.is_durable
        assert queue.head() is None
        clock.seconds += DISK_TIMEOUT_S + 0.1
        assert not queue.status().durable
        assert delivered(queue) == [1]
        queue.log_durability()
    assert len(logs.of(NOT_DURABLE)) == 1


def test_queue_disk_that_hangs_repeatedly_is_logged_once(clock: FakeClock, logs: Logs) -> None:
    queue = EventQueue(clock, lambda: None)
    for _ in range(5):
        with queue.disk_access():
            clock.seconds += 20
            queue.log_durability()
        queue.report_disk(None)
        clock.seconds += 1
    assert (len(logs.of(NOT_DURABLE)), logs.of(DURABLE)) == (1, [])


def test_queue_full_memory_drops_oldest(clock: FakeClock, logs: Logs) -> None:
    queue = EventQueue(clock, lambda: None)
    queue.report_disk("disk full")
    append(queue, *range(MAX_NEW + 10))
    assert (queue.depth, queue.status().dropped) == (MAX_NEW, 10)
    assert delivered(queue) == list(range(11, MAX_NEW + 11))
    assert len(logs.of(DROPPING)) == 1
    assert logs.of(EMPTY)[0]["dropped"] == 10


def test_queue_events_removed_while_saved_are_deleted(tmp_path: Path, clock: FakeClock) -> None:
    """The sender delivers from memory while a slow write of the same events is in progress."""
    with events_in(tmp_path, clock=clock) as events:
        append(events.queue, 1, 2, 3)
        changes = events.queue.changes()
        with events.queue.disk_access():
            clock.seconds += DISK_TIMEOUT_S + 1
            assert delivered(events.queue) == [1, 2, 3]
            append(events.queue, 4)
        store = events.writer._store
        assert store is not None
        store.apply(changes.added, changes.deleted, changes.last)
        events.queue.confirm(changes, store.count)
        assert events.queue.depth == 1
        events.writer.step()
        assert events.deliver() == [4]
    with events_in(tmp_path) as events:
        assert events.deliver() == []


def test_queue_figures_are_depth_and_age_of_oldest(tmp_path: Path, clock: FakeClock) -> None:
    with events_in(tmp_path, clock=clock) as events:
        assert events.queue.status().model_dump() == {
            "depth": 0,
            "oldest_age_s": 0.0,
            "dropped": 0,
            "durable": True,
        }
        events.add(1)
        clock.seconds += 12.34
        events.add(2)
        assert (events.queue.status().depth, events.queue.status().oldest_age_s) == (2, 12.3)
        events.deliver(1)
        assert (events.queue.status().depth, events.queue.status().oldest_age_s) == (1, 0.0)


def test_queue_append_does_not_wait_for_hanging_disk(tmp_path: Path, clock: FakeClock) -> None:
    disk = Disk()
    with events_in(tmp_path, clock=clock, open_store=disk.open) as events:
        disk.works.clear()
        append(events.queue, 1)
        clock.seconds += SYNC_INTERVAL_S
        writing = threading.Thread(target=events.writer.step)
        writing.start()
        assert disk.hangs.wait(PATIENCE)
        began = time.monotonic()
        append(events.queue, *range(2, 100))
        events.queue.status()
        events.queue.head()
        assert time.monotonic() - began < 5
        disk.works.set()
        writing.join()


def test_queue_event_is_logged_once_when_saved(tmp_path: Path, logs: Logs) -> None:
    with events_in(tmp_path) as events:
        append(events.queue, 1)
        assert logs.of("event") == []
        events.writer.step()
        events.writer.step()
    (fields,) = logs.of("event")
    assert (fields["kind"], fields["track_id"], fields["sequence"]) == ("appeared", 5, 1)


def test_queue_event_dropped_from_memory_is_logged(clock: FakeClock, logs: Logs) -> None:
    queue = EventQueue(clock, lambda: None)
    queue.report_disk(None)
    with queue.disk_access():  # in which the writer hangs
        append(queue, *range(MAX_NEW + 2))
    assert logged_sequences(logs) == [1, 2]


def test_queue_events_are_logged_while_disk_hangs(clock: FakeClock, logs: Logs) -> None:
    queue = EventQueue(clock, lambda: None)
    queue.report_disk(None)
    with queue.disk_access():
        append(queue, 1, 2)
        queue.log_durability()
        assert logged_sequences(logs) == []
        clock.seconds += DISK_TIMEOUT_S + 0.1
        queue.log_durability()  # by the network's thread
        assert logged_sequences(logs) == [1, 2]
        assert delivered(queue) == [1, 2]
    assert logged_sequences(logs) == [1, 2]
