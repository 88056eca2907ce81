"""One message over a connection of its own, for commands that do one thing and end."""

import time
from typing import Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from edge_daemon.errors import BrokerError
from edge_daemon.publishing.mqtt import LOOP_INTERVAL, Broker
from edge_daemon.publishing.topics import Message

TIMEOUT: Final = 10.0
"""Seconds in which the broker must have acknowledged."""


def publish_once(broker: Broker, message: Message, timeout: float = TIMEOUT) -> None:
    """Connect, publish, wait for the broker's acknowledgement, and leave.

    The broker names the client, as the daemon's own name would throw the daemon out.

    Raises:
        BrokerError: the broker is not there, refuses, or does not answer in time.
    """
    answers: list[ReasonCode] = []
    client = _client(broker, message, answers)
    client.connect_timeout = timeout
    try:
        client.connect(broker.host, broker.port, broker.keepalive)
        _wait_for(answers, client, timeout)
    except OSError as error:
        raise BrokerError(f"broker {broker.host}:{broker.port}: {error}") from error
    finally:
        client.disconnect()
    if answers[0].is_failure:
        raise BrokerError(f"broker {broker.host}:{broker.port}: refused: {answers[0]}")


def _client(broker: Broker, message: Message, answers: list[ReasonCode]) -> paho.Client:
    """A client that publishes when it is let in, and notes the broker's last word."""

    def on_connect(
        client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            answers.append(reason)
        else:
            client.publish(message.topic, message.payload, message.qos, message.retain)

    def on_publish(
        _client: paho.Client, _data: object, _id: int, reason: ReasonCode, _properties: object
    ) -> None:
        answers.append(reason)

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    client.on_connect = on_connect
    client.on_publish = on_publish
    return client


def _wait_for(answers: list[ReasonCode], client: paho.Client, timeout: float) -> None:
    """Serve the connection until there is an answer.

    Raises:
        OSError: the time is up, or the connection ended before.
    """
    deadline = time.monotonic() + timeout
    while not answers:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no answer for {timeout:g} s")
        ended = client.loop(LOOP_INTERVAL)
        if ended != MQTTErrorCode.MQTT_ERR_SUCCESS and not answers:
            raise ConnectionError(paho.error_string(ended))
