"""The state folder's disk is full, or read-only: events wait in memory, and none is lost."""

import os
import signal
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

from disks import fill_up, read_only, small_disk
from faults.device import EMPTY, Device, device, faces_that_come_and_go, received
from publishing.broker import Mosquitto, Subscriber, subscribed
from running import camera, eventually

NOT_KEPT, KEPT_AGAIN = "cannot keep events on disk", "events are kept on disk again"
PAUSE_FORGOTTEN = "the next start will not know of this"


def everything_arrives_in_order(watching: Device, subscriber: Subscriber) -> None:
    eventually(lambda: watching.logged.keys() <= received(subscriber).keys())
    arrived = received(subscriber)
    assert list(arrived.values()) == list(range(1, len(arrived) + 1))


def test_full_disk_is_told_once_and_events_go_on_when_it_has_room_again(tmp_path: Path) -> None:
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        small_disk(tmp_path / "disk", "1m") as disk,
        device(disk, stage.url, broker.port) as watching,
        faces_that_come_and_go(stage),
    ):
        watching.wait_for_events(3)
        broker.stop()
        ballast = fill_up(disk)
        watching.wait_for(NOT_KEPT)
        watching.wait_for_events(10)
        ballast.unlink()
        watching.wait_for(KEPT_AGAIN)
        watching.wait_for_events(3)
        # Now they are on the disk, those from memory as well: a kill costs none.
        watching.end(signal.SIGKILL)
        watching.start()
        watching.wait_for_events(1)
        broker.start()
        everything_arrives_in_order(watching, subscriber)
        assert len(watching.told(NOT_KEPT)) == len(watching.told(KEPT_AGAIN)) == 1
        assert watching.end(signal.SIGTERM) == 0


def state_disk(folder: Path) -> AbstractContextManager[Path]:
    """Root may write into any folder, so it needs a disk that can be made read-only."""
    if os.geteuid() == 0:
        return small_disk(folder, "1m")
    folder.mkdir()
    return nullcontext(folder)


def test_read_only_state_folder_at_the_start_holds_up_nothing(tmp_path: Path) -> None:
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        state_disk(tmp_path / "disk") as disk,
        ExitStack() as healing,
    ):
        healing.enter_context(read_only(disk))
        with device(disk, stage.url, broker.port) as watching, faces_that_come_and_go(stage):
            watching.wait_for(NOT_KEPT)
            watching.wait_for_events(3)
            everything_arrives_in_order(watching, subscriber)
            subscriber.publish("set/paused", b"ON")
            watching.wait_for(PAUSE_FORGOTTEN)
            subscriber.publish("set/paused", b"OFF")
            watching.wait_for("pause: resumed")
            healing.close()
            watching.wait_for(KEPT_AGAIN)
            watching.wait_for_events(3)
            everything_arrives_in_order(watching, subscriber)
            assert len(watching.told(NOT_KEPT)) == 1
            assert watching.end(signal.SIGTERM) == 0
