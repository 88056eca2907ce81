"""Checks that the broker is reachable, and accepts the login and messages on our topics."""

from typing import Final

from edge_daemon.commands.check.finding import Finding
from edge_daemon.config.settings import Settings
from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import broker_from
from edge_daemon.publishing.client import publish_single
from edge_daemon.publishing.topics import Message, Topics

HINTS: Final = {
    "certificate refused": "mqtt.ca_file must have the certificate of the broker's authority, and "
    "mqtt.host a name in the broker's certificate",
    "connection refused: ": "check mqtt.username and mqtt.password_file",
    "refused: ": "allow this user to publish below the device's topic",
    "Connection refused": "start the broker, or correct mqtt.port",
    "timed out": "check mqtt.host, mqtt.port and firewalls",
    "no answer": "check that it is an MQTT broker, and mqtt.tls",
    "reset by peer": "check whether this port needs mqtt.tls",
    "Name or service not known": "check mqtt.host",
    "name resolution": "check the network and mqtt.host",
    "WRONG_VERSION_NUMBER": "check whether this port needs mqtt.tls",
    "closed by the broker": "check whether this port needs mqtt.tls",
}
"""Fixes by parts of the error; the first match counts."""


def check_broker(settings: Settings) -> Finding:
    """Log in with another client ID, not to disconnect the daemon, and publish an empty message."""
    broker = broker_from(settings.mqtt)
    topics = Topics(settings.mqtt.base_topic, settings.device_id)
    try:
        version = publish_single(broker, Message(topics.check, b"", qos=1))
    except BrokerError as error:
        problem = str(error).removeprefix("broker ")
        hints = [hint for words, hint in HINTS.items() if words in problem]
        return Finding.fail("; ".join([problem, *hints[:1]]))
    encrypted = "with TLS" if broker.tls else "without TLS"
    if version != "5":
        # MQTT 3.1.1 cannot refuse a message.
        return Finding.ok(f"{broker.address}: login accepted, MQTT {version}, {encrypted}")
    return Finding.ok(f"{broker.address}: messages accepted, MQTT {version}, {encrypted}")
