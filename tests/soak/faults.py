"""The faults, one context manager each, which is active between its start and its end."""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

from disks import fill_up
from publishing.fixtures import DURABLE, MOVED, NOT_DURABLE
from publishing.proxy import Response
from running import PATIENCE
from soak.camera import Mood
from soak.listener import TOPICS
from soak.site import Site

from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.client import publish_single
from edge_daemon.publishing.messages import Message

ASKING_INTERVAL: Final = 10.0
"""Seconds after which an unanswered command is repeated: the broker may be unreachable."""


Fault = Callable[[Site, random.Random], AbstractContextManager[None]]


@dataclass(frozen=True)
class Chance:
    """A fault of a lane's list."""

    fault: Fault
    weight: float
    shortest: float = 0.0
    longest: float = 0.0
    """Seconds that it lasts."""

    @property
    def name(self) -> str:
        return getattr(self.fault, "__name__", "").replace("_", " ")


@contextmanager
def broker_stopped(site: Site, _chance: random.Random) -> Iterator[None]:
    site.broker.stop()
    yield
    site.broker.start()


@contextmanager
def broker_killed(site: Site, _chance: random.Random) -> Iterator[None]:
    site.broker.kill()
    yield
    site.broker.start()


@contextmanager
def connection_cut(site: Site, _chance: random.Random) -> Iterator[None]:
    site.network.drop_all()
    yield


@contextmanager
def network_stalled(site: Site, _chance: random.Random) -> Iterator[None]:
    """The network delays packets, but loses none."""
    site.network.flowing.clear()
    yield
    site.network.flowing.set()


@contextmanager
def network_dropped(site: Site, _chance: random.Random) -> Iterator[None]:
    """All packets are lost in both directions, including those in flight."""
    site.network.flowing.clear()
    yield
    site.network.drop_all()
    site.network.flowing.set()


@contextmanager
def _events_are(site: Site, response: Response) -> Iterator[None]:
    site.network.response = response
    yield
    site.network.response = Response.FORWARD


def events_refused(site: Site, _chance: random.Random) -> AbstractContextManager[None]:
    """The broker's quota is exceeded, so each event is refused."""
    return _events_are(site, Response.REFUSE)


def acknowledgements_missing(site: Site, _chance: random.Random) -> AbstractContextManager[None]:
    return _events_are(site, Response.NONE)


@contextmanager
def _camera_is(site: Site, mood: Mood) -> Iterator[None]:
    site.camera.mood = mood
    yield
    site.camera.mood = Mood.WELL


def camera_lost(site: Site, _chance: random.Random) -> AbstractContextManager[None]:
    return _camera_is(site, Mood.LOST)


def camera_hanging(site: Site, _chance: random.Random) -> AbstractContextManager[None]:
    return _camera_is(site, Mood.HANGING)


def camera_garbled(site: Site, _chance: random.Random) -> AbstractContextManager[None]:
    return _camera_is(site, Mood.GARBLED)


def camera_of_other_size(site: Site, _chance: random.Random) -> AbstractContextManager[None]:
    return _camera_is(site, Mood.OTHER_SIZE)


@contextmanager
def daemon_killed(site: Site, _chance: random.Random) -> Iterator[None]:
    site.device.kill()
    yield


@contextmanager
def daemon_frozen(site: Site, _chance: random.Random) -> Iterator[None]:
    site.device.send(signal.SIGSTOP)
    yield
    site.device.send(signal.SIGCONT)


@contextmanager
def settings_changed(site: Site, chance: random.Random) -> Iterator[None]:
    site.config.write_text(f"[mqtt]\nrate = {chance.uniform(4, 8):.1f}\n")
    site.device.send(signal.SIGHUP)
    yield


@contextmanager
def settings_mistaken(site: Site, _chance: random.Random) -> Iterator[None]:
    good = site.config.read_text()
    site.config.write_text("[mqtt]\nrate = 'often'\n")
    site.device.send(signal.SIGHUP)
    yield
    site.config.write_text(good)


@contextmanager
def camera_paused(site: Site, _chance: random.Random) -> Iterator[None]:
    _switch(site, b"ON", "status: paused")
    yield
    _switch(site, b"OFF", "status: resumed")


@contextmanager
def disk_full(site: Site, _chance: random.Random) -> Iterator[None]:
    ballast = fill_up(site.disk)
    yield
    ballast.unlink()
    _wait_until_durable(site)


@contextmanager
def fsync_hanging(site: Site, _chance: random.Random) -> Iterator[None]:
    site.fsync.hang()
    yield
    site.fsync.recover()
    _wait_until_durable(site)


@contextmanager
def descriptors_exhausted(site: Site, chance: random.Random) -> Iterator[None]:
    """The daemon can open one more file, or none."""
    site.device.limit_files(chance.randrange(2))
    yield
    site.device.limit_files(None)
    _wait_until_durable(site)


@contextmanager
def queue_removed(site: Site, chance: random.Random) -> Iterator[None]:
    """The state folder, the database or its log is removed, renamed or replaced."""
    before = site.device.count_logged(MOVED)
    (database,) = site.disk.glob("**/events-*.sqlite")
    match chance.randrange(4):
        case 0:
            shutil.rmtree(database.parent)
        case 1:
            database.unlink()
        case 2:
            database.rename(database.with_suffix(".renamed"))
        case 3:
            shutil.copy(database, copy := database.with_suffix(".copy"))
            copy.rename(database)
    yield
    _wait(lambda: site.device.count_logged(MOVED) > before, "the removed database is not noticed")
    _wait_until_durable(site)


def _wait_until_durable(site: Site) -> None:
    """Wait, as events are in memory only until then, so that a kill loses them."""
    count = site.device.count_logged
    _wait(lambda: count(NOT_DURABLE) <= count(DURABLE), "events stay in memory")


def _wait(is_fulfilled: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_fulfilled():
        assert time.monotonic() < deadline, failure
        time.sleep(0.2)


def lanes(site: Site) -> dict[str, list[Chance]]:
    """Lanes of faults: one fault at a time per lane, concurrently with the other lanes."""
    return {
        "broker": [
            Chance(broker_stopped, 2, 0, 20),
            Chance(broker_killed, 3, 0, 20),
            Chance(connection_cut, 2),
            Chance(network_stalled, 2, 1, 20),
            Chance(network_dropped, 2, 1, 40),
            Chance(events_refused, 2, 1, 20),
            Chance(acknowledgements_missing, 2, 1, 45),
        ],
        "camera": [
            Chance(camera_lost, 3, 0, 20),
            Chance(camera_hanging, 2, 1, 20),
            Chance(camera_garbled, 2, 1, 10),
            Chance(camera_of_other_size, 2, 1, 10),
        ],
        "process": [
            Chance(daemon_killed, 1),
            Chance(daemon_frozen, 2, 1, 8),
            Chance(settings_changed, 1),
            Chance(settings_mistaken, 1, 1, 2),
            Chance(camera_paused, 2, 1, 15),
            *([Chance(disk_full, 2, 2, 20)] if site.small else []),
            Chance(fsync_hanging, 2, 1, 20),
            Chance(descriptors_exhausted, 2, 1, 20),
            Chance(queue_removed, 2, 1, 3),
        ],
    }


def _switch(site: Site, payload: bytes, answer: str) -> None:
    """Repeat an MQTT command until the daemon logs its execution."""
    before = site.device.count_logged(answer)
    broker = Broker("127.0.0.1", site.broker.port)
    while site.device.count_logged(answer) == before:
        try:
            publish_single(broker, Message(TOPICS.set_paused, payload, qos=1))
        except BrokerError:
            time.sleep(1.0)
            continue
        deadline = time.monotonic() + ASKING_INTERVAL
        while site.device.count_logged(answer) == before and time.monotonic() < deadline:
            time.sleep(0.1)
