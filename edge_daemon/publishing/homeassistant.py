"""The device for Home Assistant: one retained message that describes all entities.

The format is that of device discovery, which Home Assistant supports since 2024.11:
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery. Nothing is sent here.
"""

import json
from typing import Final, get_args

from edge_daemon import __version__
from edge_daemon.config.settings import HomeAssistantSettings
from edge_daemon.publishing.messages import Message, Topics
from edge_daemon.records import EMOTIONS, EventKind
from edge_daemon.schema import DominantEmotion

Json = dict[str, object]

EXPIRING_PLATFORMS: Final = frozenset({"sensor", "binary_sensor"})
"""Platforms whose entities can become unavailable without a message for some time."""

ICONS: Final = {
    "angry": "mdi:emoticon-angry-outline",
    "disgust": "mdi:emoticon-sick-outline",
    "fear": "mdi:emoticon-frown-outline",
    "happy": "mdi:emoticon-happy-outline",
    "sad": "mdi:emoticon-sad-outline",
    "surprise": "mdi:emoticon-excited-outline",
    "neutral": "mdi:emoticon-neutral-outline",
}

EVENT_ATTRIBUTES: Final = (
    "emotion",
    "previous",
    "track_id",
    "duration",
    "time",
    "started",
    "probabilities",
    "sequence",
)
"""Fields of an event message that become attributes of the event entity."""


def discovery(
    topics: Topics,
    settings: HomeAssistantSettings,
    *,
    configuration_url: str | None = None,
    support_url: str | None = None,
    has_temperature: bool = True,
) -> Message:
    """The message that creates or updates the device and its entities.

    Args:
        topics: where the entities' values are published.
        settings: the discovery prefix, the device's name and when a value expires.
        configuration_url: a web page of the device.
        support_url: a web page of this program.
        has_temperature: whether the device has a sensor of the CPU's temperature.
    """
    device_id = topics.device_id
    origin = {"name": "edge-daemon", "sw_version": __version__, "support_url": support_url}
    components = _entities(topics)
    if not has_temperature:
        del components["cpu_temperature"]
    payload = {
        "device": _device(device_id, settings.name or device_id, configuration_url),
        "origin": {key: value for key, value in origin.items() if value is not None},
        "availability_topic": topics.availability,
        "qos": 1,
        "components": {
            **{
                key: entity
                | _identity(device_id, key, entity)
                | _availability(entity)
                | _expiry(entity, settings.expire_after)
                for key, entity in components.items()
            },
            **_triggers(device_id, topics.event),
        },
    }
    text = json.dumps(payload, ensure_ascii=False)
    return Message(_topic(device_id, settings.prefix), text.encode(), retain=True, qos=1)


def removal(device_id: str, prefix: str) -> Message:
    """The message that removes the device with all its entities."""
    return Message(_topic(device_id, prefix), b"", retain=True, qos=1)


def _topic(device_id: str, prefix: str) -> str:
    return f"{prefix}/device/{_unique(device_id)}/config"


def _unique(device_id: str) -> str:
    """The ID, distinct from those of other programs' devices."""
    return f"edge_daemon_{device_id}"


def _device(device_id: str, name: str, configuration_url: str | None) -> Json:
    device: Json = {
        "identifiers": [_unique(device_id)],
        "name": name,
        "manufacturer": "edge-daemon",
        "model": "Emotion camera",
        "sw_version": __version__,
    }
    if configuration_url is not None:
        device["configuration_url"] = configuration_url
    return device


def _identity(device_id: str, key: str, entity: Json) -> Json:
    name = f"{device_id}_{key}".lower().replace("-", "_")
    return {
        "unique_id": f"{_unique(device_id)}_{key}",
        "default_entity_id": f"{entity['platform']}.{name}",
    }


def _availability(entity: Json) -> Json:
    # Diagnostic entities show why a device is offline; without a daemon, their values expire.
    if entity.get("entity_category") == "diagnostic":
        return {"availability_template": "online"}
    return {}


def _expiry(entity: Json, seconds: int) -> Json:
    # The broker itself publishes that a device is offline, so that needs no expiry.
    is_expiring = entity.get("device_class") != "connectivity"
    if entity["platform"] in EXPIRING_PLATFORMS and is_expiring:
        return {"expire_after": seconds}
    return {}


def _entities(topics: Topics) -> dict[str, Json]:
    return {
        "emotion": _emotion(topics.state),
        "faces": _faces(topics.state),
        "presence": _presence(topics.state),
        "pause": _pause(topics),
        "face_event": _face_event(topics.event),
        **{f"probability_{emotion}": _probability(topics.state, emotion) for emotion in EMOTIONS},
        "connectivity": _connectivity(topics.availability),
        "problem": _problem(topics.health),
        "frame_rate": _frame_rate(topics.health),
        "cpu_temperature": _cpu_temperature(topics.health),
        "queued_events": _queued_events(topics.health),
    }


def _triggers(device_id: str, event: str) -> dict[str, Json]:
    """Device triggers, for automations without templates: each kind of event, each new emotion."""
    kinds = [(kind.value, "face", "{{ value_json.kind }}", kind.value) for kind in EventKind]
    changed = EventKind.EMOTION_CHANGED.value
    emotions = [
        (changed, emotion, "{{ value_json.kind }} {{ value_json.emotion }}", f"{changed} {emotion}")
        for emotion in EMOTIONS
    ]
    return {
        f"trigger_{kind}_{subtype}": {
            "platform": "device_automation",
            "automation_type": "trigger",
            "type": kind,
            "subtype": subtype,
            "topic": event,
            "value_template": template,
            "payload": payload,
            "unique_id": f"{_unique(device_id)}_trigger_{kind}_{subtype}",
        }
        for kind, subtype, template, payload in [*kinds, *emotions]
    }


def _unless_paused(value: str) -> str:
    """A template for what only an open camera can measure; else none, shown as `unknown`."""
    return f"{{{{ none if value_json.paused else {value} }}}}"


def _emotion(state: str) -> Json:
    return {
        "platform": "sensor",
        "name": "Emotion",
        "icon": "mdi:emoticon-outline",
        "device_class": "enum",
        "options": list(get_args(DominantEmotion)),
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
    attributes = ", ".join(f"{name}=value_json.{name}" for name in EVENT_ATTRIBUTES)
    return {
        "platform": "event",
        "name": "Face event",
        "icon": "mdi:face-man-shimmer-outline",
        "event_types": [kind.value for kind in EventKind],
        "state_topic": event,
        "value_template": f"{{{{ dict(event_type=value_json.kind, {attributes}) | to_json }}}}",
    }


def _probability(state: str, emotion: str) -> Json:
    value = f"value_json.probabilities.{emotion} * 100"
    return {
        "platform": "sensor",
        "name": f"Probability {emotion}",
        "icon": ICONS[emotion],
        "enabled_by_default": False,
        "state_class": "measurement",
        "unit_of_measurement": "%",
        "suggested_display_precision": 0,
        "state_topic": state,
        "value_template": f"{{{{ {value} if value_json.probabilities else none }}}}",
    }


def _connectivity(availability: str) -> Json:
    return {
        "platform": "binary_sensor",
        "name": "Connectivity",
        "entity_category": "diagnostic",
        "device_class": "connectivity",
        "state_topic": availability,
        "payload_on": "online",
        "payload_off": "offline",
    }


def _problem(health: str) -> Json:
    problem = (
        "value_json.source == 'lost' or not value_json.event_queue.durable or value_json.throttled"
        " or value_json.stuck_services"
    )
    return {
        "platform": "binary_sensor",
        "name": "Problem",
        "entity_category": "diagnostic",
        "device_class": "problem",
        "state_topic": health,
        "value_template": f"{{{{ 'ON' if {problem} else 'OFF' }}}}",
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


def _queued_events(health: str) -> Json:
    return {
        "platform": "sensor",
        "name": "Queued events",
        "icon": "mdi:tray-full",
        "entity_category": "diagnostic",
        "state_class": "measurement",
        "state_topic": health,
        "value_template": "{{ value_json.event_queue.depth }}",
    }
