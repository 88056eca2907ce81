"""The broker: whether it is reached, lets us in, and takes messages on our topics."""

from typing import Final

from edge_daemon.commands.check.finding import Finding
from edge_daemon.config.settings import Settings
from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import broker_from
from edge_daemon.publishing.client import publish_single
from edge_daemon.publishing.topics import Message, Topics

MENDS: Final = {
    "certificate refused": "mqtt.ca_file must hold its authority's certificate, and mqtt.host be "
    "a name that the broker's has",
    "connection refused: ": "are mqtt.username and mqtt.password_file right?",
    "refused: ": "let this user publish below the device's topic",
    "Connection refused": "does it run, and is mqtt.port right?",
    "timed out": "are mqtt.host and mqtt.port right, and does a firewall stand between?",
    "no answer": "is that an MQTT broker, and does mqtt.tls suit this port?",
    "reset by peer": "does mqtt.tls suit this port?",
    "Name or service not known": "is mqtt.host right?",
    "name resolution": "is there a network, and mqtt.host right?",
    "WRONG_VERSION_NUMBER": "does mqtt.tls suit this port?",
    "closed by the broker": "does mqtt.tls suit this port?",
}
"""What may help, by words of what went wrong; the first that fit count."""


def check_broker(settings: Settings) -> Finding:
    """Log in under a name of its own, as the daemon's would throw that out, and publish nothing."""
    broker = broker_from(settings.mqtt)
    topics = Topics(settings.mqtt.base_topic, settings.device_id)
    try:
        version = publish_single(broker, Message(topics.check, b"", qos=1))
    except BrokerError as error:
        said = str(error).removeprefix("broker ")
        mends = [mend for words, mend in MENDS.items() if words in said]
        return Finding.fail("; ".join([said, *mends[:1]]))
    encrypted = "with TLS" if broker.tls else "without TLS"
    if version != "5":
        # MQTT 3.1.1 has no way to refuse a message.
        return Finding.ok(f"{broker.address}: lets us in, MQTT {version}, {encrypted}")
    return Finding.ok(f"{broker.address}: takes what we publish, MQTT {version}, {encrypted}")
