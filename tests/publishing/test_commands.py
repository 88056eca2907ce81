"""Pause commands: carried out, then acknowledged, in the order of all messages."""

import threading
from collections.abc import Iterator

import pytest
from conftest import FakeClock
from publishing.fixtures import Logs, in_service
from running import PATIENCE, eventually

from edge_daemon.publishing.commands import MAX_WAITING, Inbox, PauseCommands
from edge_daemon.publishing.messages import Received
from edge_daemon.publishing.mqtt import MAX_RECEIVED_UNACKNOWLEDGED
from edge_daemon.publishing.state import OverwriteDetector

TOPIC = "base/porch/set/paused"
AVAILABILITY = "base/porch/availability"
BIRTH = "homeassistant/status"


class Pause:
    """A privacy switch whose saving a test can block or make fail."""

    def __init__(self) -> None:
        self.positions: list[bool] = []
        self.saves = threading.Event()
        self.saves.set()
        self.is_saved = True

    @property
    def paused(self) -> bool:
        return bool(self.positions and self.positions[-1])

    def set(self, paused: bool) -> bool:  # noqa: FBT001
        self.positions.append(paused)
        assert self.saves.wait(PATIENCE)
        return self.is_saved


class Connection:
    """Keeps the packet identifiers of acknowledged messages."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    def acknowledge(self, received: Received) -> None:
        self.acknowledged.append(received.packet_id)

    def unsubscribe(self, _topics: list[str]) -> None:
        pass


class Switch:
    """Commands to a pause switch, over a connection."""

    def __init__(self) -> None:
        self.pause = Pause()
        self.connection = Connection()
        self.is_closed = True
        self.commands = PauseCommands(TOPIC, self.pause, lambda: self.is_closed, lambda: None)
        clock = FakeClock()
        self.inbox = Inbox(self.commands, OverwriteDetector(AVAILABILITY, clock), BIRTH, clock)
        self.inbox.on_connected()

    def send(
        self, payload: bytes, packet_id: int, *, retained: bool = False, topic: str = TOPIC
    ) -> None:
        received = Received(topic, payload, retained=retained, qos=1, packet_id=packet_id)
        self.inbox.on_received(self.connection, received)  # type: ignore[arg-type]

    def reconnect(self) -> None:
        self.connection = Connection()
        self.inbox.on_connected()

    @property
    def acknowledged(self) -> list[int]:
        self.inbox.acknowledge(self.connection)  # type: ignore[arg-type]
        return self.connection.acknowledged


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch()
    with in_service(switch.commands):
        yield switch
        switch.pause.saves.set()
        switch.is_closed = True


def test_commands_pause_is_acknowledged_once_closed_and_saved(switch: Switch) -> None:
    switch.is_closed = False
    switch.pause.saves.clear()
    switch.send(b"ON", 7)
    eventually(lambda: switch.pause.paused)
    assert switch.acknowledged == []
    switch.pause.saves.set()
    eventually(lambda: len(switch.pause.positions) == 1)
    assert switch.acknowledged == []
    switch.is_closed = True
    eventually(lambda: switch.acknowledged == [7])


def test_commands_unsaved_pause_is_kept_until_the_next(switch: Switch) -> None:
    switch.pause.is_saved = False
    switch.send(b"ON", 1)
    eventually(lambda: switch.pause.positions == [True])
    switch.send(b"ON", 2)
    assert switch.acknowledged == [1]
    eventually(lambda: switch.pause.positions == [True, True])
    switch.send(b"OFF", 3)
    eventually(lambda: switch.acknowledged == [1, 2, 3])
    assert switch.pause.positions == [True, True, False]


def test_commands_unsaved_pause_is_acknowledged_once_resumed(switch: Switch) -> None:
    switch.pause.is_saved = False
    switch.send(b"ON", 1)
    eventually(lambda: switch.pause.paused)
    switch.pause.set(False)  # as in the preview
    eventually(lambda: switch.acknowledged == [1])


def test_commands_pause_resumed_while_closing_is_acknowledged(switch: Switch) -> None:
    switch.is_closed = False
    switch.send(b"ON", 1)
    eventually(lambda: switch.pause.paused)
    switch.pause.set(False)  # as in the preview
    eventually(lambda: switch.acknowledged == [1])


def test_commands_newest_replaces_waiting_ones(switch: Switch) -> None:
    switch.pause.saves.clear()
    switch.send(b"ON", 1)
    eventually(lambda: switch.pause.positions == [True])
    for packet_id in range(2, 1000):
        switch.send((b"OFF", b"ON")[packet_id % 2], packet_id)
    assert switch.acknowledged == list(range(1, 999))
    switch.pause.saves.set()
    eventually(lambda: switch.acknowledged == list(range(1, 1000)))
    assert switch.pause.positions == [True, True]


def test_commands_of_lost_connection_are_not_acknowledged(switch: Switch) -> None:
    switch.send(b"ON", 1)
    eventually(lambda: switch.pause.positions == [True])
    switch.reconnect()
    switch.send(b"OFF", 2)
    eventually(lambda: switch.acknowledged == [2])


@pytest.mark.parametrize("payload", [b"on", b"ON\n", b"", b"1", b"\xff\x00", b"ON" * 30_000])
def test_commands_invalid_payload_is_ignored_and_logged_once(
    switch: Switch, logs: Logs, payload: bytes
) -> None:
    for packet_id in (1, 2, 3):
        switch.send(payload, packet_id)
    assert switch.acknowledged == [1, 2, 3]
    assert switch.pause.positions == []
    (record,) = logs.records
    assert len(str(vars(record)["command"])) < 200


def test_commands_retained_is_ignored_and_logged_once(switch: Switch, logs: Logs) -> None:
    switch.send(b"ON", 1, retained=True)
    switch.send(b"ON", 2, retained=True)
    assert switch.acknowledged == [1, 2]
    assert switch.pause.positions == []
    assert len(logs.records) == 1


def test_inbox_later_messages_wait_for_the_command(switch: Switch) -> None:
    switch.is_closed = False
    switch.send(b"ON", 1)
    switch.send(b"offline", 2, topic=AVAILABILITY)
    switch.send(b"online", 3, topic=BIRTH)
    switch.send(b"maybe", 4)
    eventually(lambda: switch.pause.paused)
    assert switch.acknowledged == []
    switch.is_closed = True
    eventually(lambda: switch.acknowledged == [1, 2, 3, 4])


def test_inbox_unsaved_pause_holds_up_few_messages(switch: Switch, logs: Logs) -> None:
    switch.pause.is_saved = False
    switch.send(b"ON", 1)
    eventually(lambda: switch.pause.paused)
    for packet_id in range(2, MAX_WAITING + 2):
        switch.send(b"online", packet_id, topic=BIRTH)
    assert switch.acknowledged == []
    switch.send(b"OFF", MAX_WAITING + 2)
    eventually(lambda: switch.acknowledged == list(range(1, MAX_WAITING + 3)))


def test_inbox_too_many_waiting_release_the_first(switch: Switch, logs: Logs) -> None:
    switch.pause.is_saved = False
    switch.send(b"ON", 1)
    eventually(lambda: switch.pause.paused)
    for packet_id in range(2, MAX_WAITING + 3):
        switch.send(b"online", packet_id, topic=BIRTH)
    assert switch.acknowledged == list(range(1, MAX_WAITING + 3))
    assert len(logs.of("pending command acknowledged, too many messages wait")) == 1
    assert MAX_WAITING + 1 < MAX_RECEIVED_UNACKNOWLEDGED
