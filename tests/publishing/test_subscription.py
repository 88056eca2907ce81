import socket
from contextlib import closing
from pathlib import Path

import pytest
from commands.watch.test_command import publish
from load.fleet import LoadedMosquitto
from publishing.broker import Mosquitto
from publishing.proxy import OldBroker
from running import PATIENCE

from edge_daemon._lib.clock import SystemClock
from edge_daemon.errors import BrokerError
from edge_daemon.publishing import subscription
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.messages import Message
from edge_daemon.publishing.subscription import Subscription


def subscription_to(port: int, lines: list[str] | None = None) -> Subscription:
    broker = Broker("127.0.0.1", port, None, None, keepalive=5)
    notify = ([] if lines is None else lines).append
    return Subscription(broker, ["base/#"], notify, SystemClock(), role="test", session_expiry_s=60)


def received(subscription: Subscription, count: int) -> list[Message]:
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE
    messages: list[Message] = []
    while len(messages) < count and clock.monotonic() < deadline:
        messages += subscription.receive(0.05)
    return messages


def test_subscription_old_broker_gets_old_version(broker: Mosquitto) -> None:
    lines: list[str] = []
    with (
        OldBroker(broker.port) as old,
        closing(subscription_to(old.port, lines)) as opened,
    ):
        opened.open()
        publish(broker.port, "base/a", b"1")
        assert [message.payload for message in received(opened, 1)] == [b"1"]
    assert lines == []


def test_subscription_messages_have_their_delivery(broker: Mosquitto) -> None:
    publish(broker.port, "base/kept", b"2", retain=True)
    with closing(subscription_to(broker.port)) as opened:
        opened.open()
        assert received(opened, 1) == [Message("base/kept", b"2", retain=True, qos=1)]


@pytest.mark.usefixtures("attempts")
def test_subscription_short_loss_loses_no_event(broker: Mosquitto) -> None:
    lines: list[str] = []
    with closing(subscription_to(broker.port, lines)) as opened:
        opened.open()
        connection = opened._client.connection
        assert connection is not None
        link = connection._client.socket()
        assert link is not None
        link.shutdown(socket.SHUT_RDWR)
        publish(broker.port, "base/event", b"1", b"2", b"3")
        assert [message.payload for message in received(opened, 3)] == [b"1", b"2", b"3"]
        assert opened.problem is None
    assert len(lines) == 2


def test_subscription_broker_restart_loses_no_event(tmp_path: Path) -> None:
    broker = LoadedMosquitto(tmp_path)
    broker.start()
    try:
        with closing(subscription_to(broker.port)) as opened:
            opened.open()
            broker.stop()
            broker.start()
            publish(broker.port, "base/event", b"1", b"2", b"3")
            assert [message.payload for message in received(opened, 3)] == [b"1", b"2", b"3"]
    finally:
        broker.stop()


def test_subscription_silent_broker_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with (
            closing(subscription_to(port)) as opened,
            pytest.raises(BrokerError, match=f"127.0.0.1:{port}: no answer"),
        ):
            opened.open()
