"""The device as Home Assistant discovers it: one retained message that describes all entities.

The form is that of device discovery, which Home Assistant knows since 2024.11:
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery. Nothing is sent here.
"""

import json
from typing import Final, get_args

from edge_daemon.publishing.topics import Message, Topics
from edge_daemon.records import EventKind
from edge_daemon.schema import Mood

Json = dict[str, object]

EXPIRING_PLATFORMS: Final = frozenset({"sensor", "binary_sensor"})
"""Those whose entities become unavailable when nothing has come for a while."""


def discovery(
    device_id: str,
    topics: Topics,
    prefix: str,
    expire_after: int,
    version: str,
    *,
    name: str | None = None,
    configuration_url: str | None = None,
    has_temperature: bool = True,
) -> Message:
    """The message that makes the device and its entities appear, or brings them up to date.

    Args:
        device_id: what the ids of all entities are made of.
        topics: where the entities' values come from.
        prefix: what Home Assistant's discovery topics begin with.
        expire_after: seconds without news after which a value is shown as unavailable.
        version: of this program.
        name: what people call the device; its id, if none.
        configuration_url: a web page of the device.
        has_temperature: whether the device has a sensor of the CPU's temperature.
    """
    components = _components(topics)
    if not has_temperature:
        del components["cpu_temperature"]
    payload = {
        "device": _device(device_id, name or device_id, version, configuration_url),
        "origin": {"name": "edge-daemon", "sw_version": version},
        "availability_topic": topics.availability,
        "qos": 1,
        "components": {
            key: component | _identity(device_id, key, component) | _expiry(component, expire_after)
            for key, component in components.items()
        },
    }
    text = json.dumps(payload, ensure_ascii=False)
    return Message(_topic(device_id, prefix), text.encode(), retain=True, qos=1)


def removal(device_id: str, prefix: str) -> Message:
    """The message that makes the device and all its entities disappear."""
    return Message(_topic(device_id, prefix), b"", retain=True, qos=1)


def _topic(device_id: str, prefix: str) -> str:
    return f"{prefix}/device/{_unique(device_id)}/config"


def _unique(device_id: str) -> str:
    """The id, told apart from other programs' devices."""
    return f"edge_daemon_{device_id}"


def _device(device_id: str, name: str, version: str, configuration_url: str | None) -> Json:
    device: Json = {
        "identifiers": [_unique(device_id)],
        "name": name,
        "manufacturer": "edge-daemon",
        "model": "Emotion camera",
        "sw_version": version,
    }
    if configuration_url is not None:
        device["configuration_url"] = configuration_url
    return device


def _identity(device_id: str, key: str, component: Json) -> Json:
    name = f"{device_id}_{key}".lower().replace("-", "_")
    return {
        "unique_id": f"{_unique(device_id)}_{key}",
        "default_entity_id": f"{component['platform']}.{name}",
    }


def _expiry(component: Json, seconds: int) -> Json:
    return {"expire_after": seconds} if component["platform"] in EXPIRING_PLATFORMS else {}


def _components(topics: Topics) -> dict[str, Json]:
    return {
        "emotion": _emotion(topics.state),
        "faces": _faces(topics.state),
        "presence": _presence(topics.state),
        "pause": _pause(topics),
        "face_event": _face_event(topics.event),
        "frame_rate": _frame_rate(topics.health),
        "cpu_temperature": _cpu_temperature(topics.health),
        "waiting_events": _waiting_events(topics.health),
    }


def _unless_paused(value: str) -> str:
    """A template for what only an open camera knows; else none, which shows as `unknown`."""
    return f"{{{{ none if value_json.paused else {value} }}}}"


def _emotion(state: str) -> Json:
    return {
        "platform": "sensor",
        "name": None,  # the device's main feature goes by the device's name
        "icon": "mdi:emoticon-outline",
        "device_class": "enum",
        "options": list(get_args(Mood)),
        "state_topic": state,
        "value_template": _unless_paused("value_json.emotion"),
        "json_attributes_topic": state,
        # Only what changes with the emotion: each change of an attribute is a row in a database.
        "json_attributes_template": "{{ {'since': value_json.since} | to_json }}",
    }


def _faces(state: str) -> Json:
    return {
        "platform": "sensor",
        "name": "Faces",
        "icon": "mdi:face-recognition",
        "state_class": "measurement",
        "state_topic": state,
        "value_template": _unless_paused("value_json.faces"),
    }


def _presence(state: str) -> Json:
    return {
        "platform": "binary_sensor",
        "name": "Presence",
        "device_class": "occupancy",
        "state_topic": state,
        "value_template": _unless_paused("'ON' if value_json.faces else 'OFF'"),
    }


def _pause(topics: Topics) -> Json:
    return {
        "platform": "switch",
        "name": "Pause",
        "icon": "mdi:camera-off",
        "command_topic": topics.set_paused,
        "state_topic": topics.state,
        "value_template": "{{ 'ON' if value_json.paused else 'OFF' }}",
    }


def _face_event(event: str) -> Json:
    return {
        "platform": "event",
        "name": "Face event",
        "icon": "mdi:face-man-shimmer-outline",
        "event_types": [kind.value for kind in EventKind],
        "state_topic": event,
        "value_template": "{{ dict(value_json, event_type=value_json.kind) | to_json }}",
    }


def _frame_rate(health: str) -> Json:
    return {
        "platform": "sensor",
        "name": "Frame rate",
        "icon": "mdi:speedometer",
        "entity_category": "diagnostic",
        "state_class": "measurement",
        "unit_of_measurement": "fps",
        "suggested_display_precision": 1,
        "state_topic": health,
        "value_template": "{{ value_json.fps_out }}",
    }


def _cpu_temperature(health: str) -> Json:
    return {
        "platform": "sensor",
        "name": "CPU temperature",
        "entity_category": "diagnostic",
        "device_class": "temperature",
        "state_class": "measurement",
        "unit_of_measurement": "°C",
        "suggested_display_precision": 0,
        "state_topic": health,
        "value_template": "{{ value_json.cpu_temperature_c }}",
    }


def _waiting_events(health: str) -> Json:
    return {
        "platform": "sensor",
        "name": "Waiting events",
        "icon": "mdi:tray-full",
        "entity_category": "diagnostic",
        "state_class": "measurement",
        "state_topic": health,
        "value_template": "{{ value_json.spool.depth }}",
    }
