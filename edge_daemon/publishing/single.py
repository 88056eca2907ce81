"""One message over a connection of its own, for commands that do one thing and end."""

import time
from dataclasses import replace
from typing import Final

from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.mqtt import (
    Accepted,
    Acknowledged,
    Connection,
    ConnectionEnded,
    Reception,
    VersionRefused,
)
from edge_daemon.publishing.topics import Message

TIMEOUT: Final = 10.0
"""Seconds in which the broker must have acknowledged."""

LOOP_INTERVAL: Final = 0.2
"""Seconds between two looks at the clock while the network is quiet."""


def publish_once(broker: Broker, message: Message, timeout: float = TIMEOUT) -> str:
    """Connect, publish a message of QoS 1, wait for the broker's acknowledgement, and leave.

    Returns:
        The version of MQTT that was spoken.

    Raises:
        BrokerError: the broker is not there, refuses, or does not answer in time.
    """
    try:
        try:
            version = "3.1.1" if broker.protocol == "3.1.1" else "5"
            return _deliver(broker, message, version, timeout)
        except VersionRefused:
            if broker.protocol != "auto":
                raise
            return _deliver(broker, message, "3.1.1", timeout)
    except ConnectionEnded as end:
        raise BrokerError(f"broker {broker.address}: {end}") from end


def _deliver(broker: Broker, message: Message, version: str, timeout: float) -> str:
    # The broker names the client, as the daemon's own name would throw the daemon out;
    # and it need not remember one that will never come again.
    connection = Connection(replace(broker, session_expiry=0), "", version, will=None)
    try:
        connection.open()
        _wait_for_acknowledgement(connection, message, timeout)
        connection.disconnect()
    finally:
        connection.close()
    return version


def _wait_for_acknowledgement(connection: Connection, message: Message, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for happening in connection.turn(LOOP_INTERVAL):
            if isinstance(happening, Accepted):
                connection.publish(message)
            if isinstance(happening, Acknowledged):
                if happening.reception is Reception.REFUSED:
                    raise ConnectionEnded(f"{message.topic}: refused: {happening.reason}")
                return
    raise ConnectionEnded(f"no answer for {timeout:g} s")
