"""Packets are lost in one direction or in both, without a connection reset."""

from contextlib import ExitStack
from pathlib import Path

from drawing import draw_scene, write_clip
from faults.cable import Cable, cables
from faults.device import SCENES, Device, device, received
from publishing.broker import Mosquitto, Subscriber, subscribed
from running import eventually, free_port

DIRECTIONS = {
    "inbound": {"outbound": False, "inbound": True},
    "outbound": {"outbound": True, "inbound": False},
    "both": {"outbound": True, "inbound": True},
}
"""Directions in which packets are lost, by device."""

CONNECTED, LOST = "connected to the broker", "no connection to the broker"


def clip_of_visits(path: Path) -> Path:
    """A clip that alternates between a face at another place and an empty scene."""
    scenes = [scene for face in SCENES for scene in ([face] * 2 + [draw_scene()] * 2)]
    return write_clip(path, scenes)


def everything_arrived(watching: Device, subscriber: Subscriber) -> bool:
    return watching.logged.keys() <= received(subscriber).keys()


def test_half_open_connection_is_detected_without_event_loss(
    tmp_path: Path,
) -> None:
    clip, port = clip_of_visits(tmp_path / "visits.mp4"), free_port()
    with ExitStack() as parts:
        laid = dict(zip(DIRECTIONS, parts.enter_context(cables(len(DIRECTIONS))), strict=True))
        ends = tuple(f"listener {port} {cable.here}" for cable in laid.values())
        broker = parts.enter_context(Mosquitto(tmp_path, lines=ends))
        listening = {
            name: parts.enter_context(subscribed(broker.port, f"edge-daemon/{name}"))
            for name in laid
        }
        devices = {
            name: parts.enter_context(connected(tmp_path / name, clip, name, cable, port))
            for name, cable in laid.items()
        }
        for watching in devices.values():
            watching.wait_for_events(3)
        for name, cable in laid.items():
            cable.lose(**DIRECTIONS[name])
        for name, watching in devices.items():
            watching.wait_for(LOST)
            watching.wait_for_events(5)
            assert not everything_arrived(watching, listening[name])
            eventually(lambda name=name: listening[name].payloads("availability")[-1] == b"offline")
        for name, cable in laid.items():
            cable.restore(**DIRECTIONS[name])
        for name, watching in devices.items():
            eventually(lambda watching=watching: len(watching.lines_with(CONNECTED)) == 2)
            watching.wait_for_events(3)
            assert len(watching.lines_with(LOST)) == 1
            logged, arrived = watching.end_delivered(listening[name]), received(listening[name])
            assert logged.items() <= arrived.items()
            assert list(arrived.values()) == list(range(1, len(arrived) + 1))


def connected(state: Path, clip: Path, name: str, cable: Cable, port: int):
    settings = ("capture.loop=true", "mqtt.keepalive=5", "mqtt.will_delay=0")
    return device(
        state, str(clip), port, host=cable.here, settings=settings, inside=cable.inside, name=name
    )
