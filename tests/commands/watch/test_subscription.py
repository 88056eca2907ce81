import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest
from commands.watch.test_command import publish
from load.fleet import LoadedBroker
from paho.mqtt import client as paho
from publishing.broker import Mosquitto
from running import PATIENCE

from edge_daemon._lib.clock import SystemClock
from edge_daemon.commands.watch import subscription as subscription_module
from edge_daemon.commands.watch.subscription import Subscription
from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.topics import Message


def subscription_to(port: int, told: list[str] | None = None) -> Subscription:
    broker = Broker("127.0.0.1", port, None, None, keepalive=5)
    tell = ([] if told is None else told).append
    return Subscription(broker, ["base/#"], tell, SystemClock())


def received(subscription: Subscription, count: int) -> list[Message]:
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE
    messages: list[Message] = []
    while len(messages) < count and clock.monotonic() < deadline:
        messages += subscription.receive(0.05)
    return messages


class OldBroker:
    """Speaks MQTT 3.1.1 and nothing newer: before a real broker, it turns others away."""

    def __init__(self, port: int) -> None:
        self._real = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.levels: list[int] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            hello = connection.recv(4096)
            self.levels.append(hello[hello.index(b"MQTT") + 4])
            if self.levels[-1] != paho.MQTTv311:
                connection.sendall(b"\x20\x02\x00\x01")  # CONNACK: unacceptable protocol version
                connection.close()
                continue
            real = socket.create_connection(("127.0.0.1", self._real))
            real.sendall(hello)
            for source, target in ((connection, real), (real, connection)):
                threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        return
    finally:
        target.close()


def test_broker_that_only_knows_3_1_1_is_spoken_to_in_that(broker: Mosquitto) -> None:
    told: list[str] = []
    old = OldBroker(broker.port)
    with closing(old), closing(subscription_to(old.port, told)) as subscription:
        subscription.open()
        publish(broker.port, "base/a", b"1")
        assert [message.payload for message in received(subscription, 1)] == [b"1"]
    assert old.levels == [paho.MQTTv5, paho.MQTTv311]
    assert told == []


def test_messages_come_with_how_they_were_delivered(broker: Mosquitto) -> None:
    publish(broker.port, "base/kept", b"2", retain=True)
    with closing(subscription_to(broker.port)) as subscription:
        subscription.open()
        assert received(subscription, 1) == [Message("base/kept", b"2", retain=True, qos=1)]


def test_blink_of_the_network_loses_no_event(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_module, "backoff_delays", lambda: iter([0.0] * 100))
    told: list[str] = []
    with closing(subscription_to(broker.port, told)) as subscription:
        subscription.open()
        connection = subscription._client.socket()
        assert connection is not None
        connection.shutdown(socket.SHUT_RDWR)
        publish(broker.port, "base/event", b"1", b"2", b"3")
        assert [message.payload for message in received(subscription, 3)] == [b"1", b"2", b"3"]
        assert subscription.problem is None
    lost, back = told
    assert "trying again" in lost
    assert "back after" in back


def test_restart_of_a_broker_with_a_memory_loses_no_event(tmp_path: Path) -> None:
    broker = LoadedBroker(tmp_path)
    broker.start()
    try:
        with closing(subscription_to(broker.port)) as subscription:
            subscription.open()
            broker.stop()
            broker.start()
            publish(broker.port, "base/event", b"1", b"2", b"3")
            assert [message.payload for message in received(subscription, 3)] == [b"1", b"2", b"3"]
    finally:
        broker.stop()


def test_broker_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with (
            closing(subscription_to(port)) as subscription,
            pytest.raises(BrokerError, match=f"127.0.0.1:{port}: no answer"),
        ):
            subscription.open()
