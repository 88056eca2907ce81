"""The state folder's disk is full, or read-only: events wait in memory, and none is lost.

Above the limit, the oldest are dropped.
"""

import json
import os
import shutil
import signal
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

from disks import HangingDisk, fill_up, read_only, small_disk
from faults.device import EMPTY, Device, device, faces_that_come_and_go, received
from publishing.broker import Mosquitto, Subscriber, subscribed
from publishing.fixtures import DROPPING, DURABLE, MOVED, NOT_DURABLE
from running import PATIENCE, STOP_LIMIT, RunningProgram, broker_at, camera, eventually

PAUSE_NOT_SAVED = "could not save pause state"


def everything_arrives_in_order(watching: Device, subscriber: Subscriber) -> None:
    eventually(lambda: watching.logged.keys() <= received(subscriber).keys())
    arrived = received(subscriber)
    assert list(arrived.values()) == list(range(1, len(arrived) + 1))


def test_full_disk_is_logged_once_and_events_survive(tmp_path: Path) -> None:
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
        watching.wait_for(NOT_DURABLE)
        watching.wait_for_events(10)
        ballast.unlink()
        watching.wait_for(DURABLE)
        watching.wait_for_events(3)
        # Now all events are on the disk, so that a kill loses none.
        watching.end(signal.SIGKILL)
        watching.start()
        watching.wait_for_events(1)
        broker.start()
        everything_arrives_in_order(watching, subscriber)
        assert len(watching.lines_with(NOT_DURABLE)) == len(watching.lines_with(DURABLE)) == 1
        assert watching.end(signal.SIGTERM) == 0


def state_disk(folder: Path) -> AbstractContextManager[Path]:
    """Root may write into any folder, so the test needs a disk that is mounted read-only."""
    if os.geteuid() == 0:
        return small_disk(folder, "1m")
    folder.mkdir()
    return nullcontext(folder)


def test_read_only_state_folder_at_start_blocks_nothing(tmp_path: Path) -> None:
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        state_disk(tmp_path / "disk") as disk,
        ExitStack() as healing,
    ):
        healing.enter_context(read_only(disk))
        with device(disk, stage.url, broker.port) as watching, faces_that_come_and_go(stage):
            watching.wait_for(NOT_DURABLE)
            watching.wait_for_events(3)
            everything_arrives_in_order(watching, subscriber)
            subscriber.publish("set/paused", b"ON")
            watching.wait_for(PAUSE_NOT_SAVED)
            subscriber.publish("set/paused", b"OFF")
            watching.wait_for("status: resumed")
            healing.close()
            watching.wait_for(DURABLE)
            watching.wait_for_events(3)
            everything_arrives_in_order(watching, subscriber)
            assert len(watching.lines_with(NOT_DURABLE)) == 1
            assert watching.end(signal.SIGTERM) == 0


def given_up_by_its_word(subscriber: Subscriber) -> int:
    health = json.loads(subscriber.payloads("health")[-1])
    return int(health["event_queue"]["dropped"])


def test_event_queue_limit_exceeded_drops_the_oldest(tmp_path: Path) -> None:
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
    ):
        broker.stop()
        settings = ("mqtt.queue_max_events=10", "health.interval=1")
        with device(tmp_path, stage.url, broker.port, settings=settings) as watching:
            with faces_that_come_and_go(stage):
                watching.wait_for_events(20)
                watching.wait_for(DROPPING)
                broker.start()
                eventually(lambda: received(subscriber))
                watching.wait_for_events(3)
            logged = watching.logged
            eventually(lambda: list(logged)[-1] in received(subscriber))
            arrived = list(received(subscriber).values())
            given_up = set(range(1, arrived[-1] + 1)) - set(arrived)
            eventually(lambda: given_up_by_its_word(subscriber) == len(given_up))
            assert watching.end(signal.SIGTERM) == 0
    # The queue can be full once more while the first events are on their way, which stay in it.
    assert arrived == sorted(set(arrived))
    assert 1 in given_up
    assert max(given_up) < len(logged) - 3
    assert len(watching.lines_with(DROPPING)) == 1


def durable(subscriber: Subscriber) -> bool:
    return bool(json.loads(subscriber.payloads("health")[-1])["event_queue"]["durable"])


def test_hanging_fsync_blocks_no_messages_and_stop_is_quick(tmp_path: Path) -> None:
    disk = HangingDisk(tmp_path)
    settings = ("health.interval=1",)
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        device(tmp_path, stage.url, broker.port, settings=settings, inside=disk.inside) as watching,
        faces_that_come_and_go(stage),
    ):
        watching.wait_for_events(3)
        disk.hang()
        eventually(lambda: not durable(subscriber))
        count, faces = len(received(subscriber)), len(subscriber.on("faces"))
        eventually(lambda: len(received(subscriber)) > count + 5)
        assert len(subscriber.on("faces")) > faces
        assert len(watching.lines_with(NOT_DURABLE)) == 1
        subscriber.publish("set/paused", b"ON")
        eventually(lambda: json.loads(subscriber.payloads("state")[-1])["paused"])
        code, seconds = watching.end_timed(signal.SIGTERM)
        assert (code, seconds < STOP_LIMIT) == (0, True)


def test_hanging_fsync_that_recovers_loses_no_event(tmp_path: Path) -> None:
    disk = HangingDisk(tmp_path)
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        device(tmp_path, stage.url, broker.port, inside=disk.inside) as watching,
        faces_that_come_and_go(stage),
    ):
        watching.wait_for_events(3)
        for _ in range(2):
            # The second hang begins sooner after the first than the disk counts as recovered.
            watching.wait_for_events(1)
            disk.hang()
            time.sleep(4)
            disk.recover()
        watching.wait_for(DURABLE)
        watching.end(signal.SIGKILL)
        watching.start()
        watching.wait_for_events(1)
        everything_arrives_in_order(watching, subscriber)
        assert len(watching.lines_with(NOT_DURABLE)) == len(watching.lines_with(DURABLE)) == 1
        assert watching.end(signal.SIGTERM) == 0


def test_state_folder_removed_in_use_loses_no_event(tmp_path: Path) -> None:
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        device(tmp_path, stage.url, broker.port) as watching,
        faces_that_come_and_go(stage),
    ):
        watching.wait_for_events(3)
        broker.stop()
        watching.wait_for_events(5)
        shutil.rmtree(tmp_path / "state" / "edge-daemon")
        watching.wait_for(MOVED)
        watching.wait_for_events(3)
        second = RunningProgram(
            tmp_path, "--source", stage.url, *broker_at(broker.port), "--set", "device_id=porch"
        )
        assert second.process.wait(PATIENCE) == 1
        watching.end(signal.SIGKILL)
        watching.start()
        watching.wait_for_events(1)
        broker.start()
        everything_arrives_in_order(watching, subscriber)
        assert watching.end(signal.SIGTERM) == 0
