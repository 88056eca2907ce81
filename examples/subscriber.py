"""Print each event of all devices once, without losing any while this program is stopped.

    pip install 'aiomqtt>=2.3'
    python subscriber.py broker.local [PORT]

The broker keeps a session with queued events for a day. An event can arrive more than once; its
`event_id` identifies duplicates. A gap in `sequence` means that the device dropped events.
"""

import asyncio
import json
import sys
from collections import OrderedDict
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TOPIC = "edge-daemon/+/event"
CLIENT_ID = "example-subscriber"
SESSION_EXPIRY_S = 24 * 3600
MAX_REMEMBERED_IDS = 10_000
RECONNECT_DELAY_S = 5


class EventFilter:
    """Yields each event once and counts missing ones."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._sequences: dict[str, int] = {}

    def is_new(self, event_id: str) -> bool:
        """Whether an event arrives for the first time."""
        if event_id in self._seen:
            return False
        self._seen[event_id] = None
        if len(self._seen) > MAX_REMEMBERED_IDS:
            self._seen.popitem(last=False)
        return True

    def missing_before(self, device: str, sequence: int) -> int:
        """The number of events that the device dropped before this one."""
        expected = self._sequences.get(device, sequence - 1) + 1
        self._sequences[device] = sequence
        return max(0, sequence - expected)


def parsed(payload: Any) -> dict[str, Any] | None:
    """The event, or None for anything else or for an unknown schema."""
    try:
        event = json.loads(payload)
    except (TypeError, ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("schema") != 1:
        return None
    is_numbered = isinstance(event.get("event_id"), str) and isinstance(event.get("sequence"), int)
    return event if is_numbered and {"kind", "emotion"} <= event.keys() else None


def handle(events: EventFilter, device: str, payload: Any) -> None:
    event = parsed(payload)
    if event is None:
        print(f"{device}: not an event of schema 1", flush=True)
    elif events.is_new(event["event_id"]):
        if missing := events.missing_before(device, event["sequence"]):
            print(f"{device}: {missing} events missing", flush=True)
        print(f"{device}: {event['sequence']} {event['kind']} {event['emotion']}", flush=True)


async def subscribe(host: str, port: int, events: EventFilter) -> None:
    """Handle events until the connection is lost."""
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = SESSION_EXPIRY_S
    client = aiomqtt.Client(
        host,
        port,
        identifier=CLIENT_ID,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=session,
    )
    async with client:
        await client.subscribe(TOPIC, qos=1)
        async for message in client.messages:
            handle(events, message.topic.value.split("/")[-2], message.payload)


async def main(host: str, port: int = 1883) -> None:
    events = EventFilter()
    while True:
        try:
            await subscribe(host, port, events)
        except aiomqtt.MqttError as error:
            print(f"{error}; retry in {RECONNECT_DELAY_S} s", file=sys.stderr, flush=True)
            await asyncio.sleep(RECONNECT_DELAY_S)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:3])))
