"""The running system under test: camera, broker, network, disk, daemon, subscriber."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from disks import HangingDisk, own_disk
from publishing.broker import Mosquitto
from publishing.proxy import EventProxy
from soak.camera import FilmCamera, playing
from soak.device import Device, kept_running
from soak.film import Film
from soak.listener import DEVICE_ID, TOPICS, Listener, listening

DISK_SIZE: Final = "32m"

SETTINGS: Final = (
    # Many events.
    "events.appear_after=0.2",
    "events.dwell=0.2",
    "events.margin=0.05",
    "tracking.max_age=0.5",
    "smoothing.time_constant=0.2",
    # A half-open connection is detected sooner.
    "mqtt.keepalive=10",
    "health.interval=10",
)

BROKER: Final = (
    "persistence true",
    "max_inflight_messages 0",  # what it queued for the subscriber would be lost when it is killed
    "max_queued_messages 100000",
    "connection_messages false",
)


@dataclass(frozen=True)
class Site:
    """The parts, each in a state of its own."""

    camera: FilmCamera
    broker: Mosquitto
    network: EventProxy
    """Between daemon and broker."""
    disk: Path
    """Where the state folder is."""
    small: bool
    """Whether that is a small disk of its own, so that it can be filled."""
    fsync: HangingDisk
    config: Path
    device: Device
    listener: Listener


@contextmanager
def built(folder: Path, film: Film) -> Iterator[Site]:
    """A site without faults; its files are in the folder."""
    config, disk = folder / "config.toml", folder / "disk"
    config.write_text("")
    with ExitStack() as parts:
        enter = parts.enter_context
        camera = enter(playing(film))
        lines = (*BROKER, f"persistence_location {folder}/")
        broker = enter(Mosquitto(folder, lines=lines))
        network = enter(EventProxy(broker.port, TOPICS.event))
        small = enter(own_disk(disk, DISK_SIZE))
        listener = enter(listening(broker.port))
        words = ["--source", camera.url, "--config", config]
        way = (f"device_id={DEVICE_ID}", "mqtt.host=127.0.0.1", f"mqtt.port={network.port}")
        for setting in (*SETTINGS, *way):
            words += ["--set", setting]
        fsync = HangingDisk(folder)
        device = enter(kept_running(disk, *words, inside=fsync.inside))
        yield Site(camera, broker, network, disk, small, fsync, config, device, listener)
