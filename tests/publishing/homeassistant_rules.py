"""Home Assistant's rules for discovered devices, as its documentation states them.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, and the pages of the platforms
below. They are stricter where Home Assistant silently ignores a mistake, such as an unknown key of
an entity.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jinja2

Json = dict[str, Any]
Problems = Iterator[str]

ABBREVIATIONS = {
    "atype": "automation_type",
    "pl": "payload",
    "stype": "subtype",
    "avty": "availability",
    "avty_mode": "availability_mode",
    "avty_t": "availability_topic",
    "avty_tpl": "availability_template",
    "cmd_t": "command_topic",
    "cmd_tpl": "command_template",
    "cmps": "components",
    "def_ent_id": "default_entity_id",
    "dev": "device",
    "dev_cla": "device_class",
    "e": "encoding",
    "en": "enabled_by_default",
    "ent_cat": "entity_category",
    "ent_pic": "entity_picture",
    "evt_typ": "event_types",
    "exp_aft": "expire_after",
    "frc_upd": "force_update",
    "ic": "icon",
    "json_attr_t": "json_attributes_topic",
    "json_attr_tpl": "json_attributes_template",
    "lrst_val_tpl": "last_reset_value_template",
    "o": "origin",
    "obj_id": "object_id",  # until 2026.4, when default_entity_id had taken its place
    "off_dly": "off_delay",
    "ops": "options",
    "opt": "optimistic",
    "p": "platform",
    "pl_avail": "payload_available",
    "pl_not_avail": "payload_not_available",
    "pl_off": "payload_off",
    "pl_on": "payload_on",
    "ret": "retain",
    "stat_cla": "state_class",
    "stat_off": "state_off",
    "stat_on": "state_on",
    "stat_t": "state_topic",
    "sug_dsp_prc": "suggested_display_precision",
    "t": "topic",
    "uniq_id": "unique_id",
    "unit_of_meas": "unit_of_measurement",
    "val_tpl": "value_template",
}
DEVICE_ABBREVIATIONS = {
    "atype": "automation_type",
    "pl": "payload",
    "stype": "subtype",
    "cns": "connections",
    "cu": "configuration_url",
    "hw": "hw_version",
    "ids": "identifiers",
    "mdl": "model",
    "mdl_id": "model_id",
    "mf": "manufacturer",
    "sa": "suggested_area",
    "sn": "serial_number",
    "sw": "sw_version",
}
ORIGIN_ABBREVIATIONS = {"sw": "sw_version", "url": "support_url"}

PAYLOADS = {"payload_available", "payload_not_available"}
AVAILABILITY = PAYLOADS | {
    "availability",
    "availability_mode",
    "availability_template",
    "availability_topic",
}
SHARED = AVAILABILITY | {"command_topic", "encoding", "qos", "state_topic"}
"""Keys at the root that are defaults for all components."""

ROOT = SHARED | {"components", "device", "origin"}
DEVICE = {*DEVICE_ABBREVIATIONS.values(), "name", "via_device"}
ORIGIN = {*ORIGIN_ABBREVIATIONS.values(), "name"}

ENTITY = AVAILABILITY | {
    "default_entity_id",
    "enabled_by_default",
    "encoding",
    "entity_category",
    "entity_picture",
    "icon",
    "json_attributes_template",
    "json_attributes_topic",
    "name",
    "platform",
    "qos",
    "unique_id",
}
"""Keys that every entity may have."""


@dataclass(frozen=True)
class Platform:
    """Required and optional keys of a kind of entity, in addition to the common ones."""

    required: frozenset[str]
    optional: frozenset[str]
    device_classes: frozenset[str]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PLATFORMS = {
    "sensor": Platform(
        required=_words("state_topic"),
        optional=_words("""
            device_class expire_after force_update last_reset_value_template options state_class
            suggested_display_precision unit_of_measurement value_template
        """),
        device_classes=_words("data_rate data_size duration enum frequency temperature"),
    ),
    "binary_sensor": Platform(
        required=_words("state_topic"),
        optional=_words("""
            device_class expire_after force_update off_delay payload_off payload_on value_template
        """),
        device_classes=_words("connectivity motion occupancy presence problem running"),
    ),
    "switch": Platform(
        required=_words("command_topic"),
        optional=_words("""
            command_template device_class optimistic payload_off payload_on retain state_off
            state_on state_topic value_template
        """),
        device_classes=_words("outlet switch"),
    ),
    "device_automation": Platform(
        required=_words("automation_type subtype topic type"),
        optional=_words("payload value_template"),
        device_classes=frozenset(),
    ),
    "event": Platform(
        required=_words("event_types state_topic"),
        optional=_words("device_class value_template"),
        device_classes=_words("button doorbell motion"),
    ),
}
"""The platforms, with the device classes that are relevant for a camera."""

UNITS = {
    "data_rate": {"bit/s", "kbit/s", "Mbit/s", "B/s", "kB/s", "MB/s"},
    "data_size": {"bit", "B", "kB", "MB", "GB", "KiB", "MiB", "GiB"},
    "duration": {"d", "h", "min", "s", "ms", "μs"},
    "frequency": {"Hz", "kHz", "MHz", "GHz"},
    "temperature": {"°C", "°F", "K"},
}
"""The units of sensors' device classes."""

STATE_CLASSES = {"measurement", "measurement_angle", "total", "total_increasing"}

TOPIC = re.compile(r"[^+#]+/device/([a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")
ENTITY_ID = re.compile(r"(?P<platform>[a-z_]+)\.[a-z0-9]+(_[a-z0-9]+)*")
ICON = re.compile(r"[a-z]+:[a-z0-9-]+")
TEMPLATES = jinja2.Environment(autoescape=False)
TEMPLATES.filters["to_json"] = json.dumps


def problems(topic: str, payload: bytes) -> list[str]:
    """The problems of a device's discovery payload, one per line."""
    root = expanded(json.loads(payload))
    components = root.get("components", {})
    shared = {key: value for key, value in root.items() if key in SHARED}
    return [
        *([] if TOPIC.fullmatch(topic) else [f"topic: {topic!r} is not listened to"]),
        *_keys("root", root, ROOT, {"components", "device", "origin"}),
        *_common("root", root),
        *_device(root.get("device", {})),
        *_keys("origin", root.get("origin", {}), ORIGIN, {"name"}),
        *_unique_ids(components),
        *(line for key, one in components.items() for line in _component(key, one, shared)),
    ]


def expanded(payload: Json) -> Json:
    """The payload with its abbreviated keys written out."""
    root = _written_out(payload)
    for part, names in (("device", DEVICE_ABBREVIATIONS), ("origin", ORIGIN_ABBREVIATIONS)):
        if part in root:
            root[part] = {names.get(key, key): value for key, value in root[part].items()}
    if "components" in root:
        root["components"] = {key: _written_out(one) for key, one in root["components"].items()}
    return root


def _written_out(keyed: Json) -> Json:
    full = {ABBREVIATIONS.get(key, key): value for key, value in keyed.items()}
    if isinstance(full.get("availability"), list):
        full["availability"] = [_written_out(source) for source in full["availability"]]
    return full


def _component(key: str, component: Json, shared: Json) -> Problems:
    platform = PLATFORMS.get(component.get("platform", ""))
    if platform is None:
        yield f"{key}: platform {component.get('platform')!r} is not known"
        return
    if component.keys() == {"platform"}:
        return  # this takes the entity away
    allowed = ENTITY | platform.required | platform.optional
    whole = {name: value for name, value in shared.items() if name in allowed} | component
    yield from _keys(key, whole, allowed, platform.required | {"unique_id"})
    yield from _common(key, whole)
    yield from _identity(key, whole)
    if whole.get("device_class") not in {None, *platform.device_classes}:
        yield f"{key}: device_class {whole['device_class']!r} is none of {whole['platform']}"
    if whole["platform"] == "sensor":
        yield from _sensor(key, whole)


def _keys(
    place: str, found: Json, allowed: set[str] | frozenset[str], required: set[str]
) -> Problems:
    yield from (f"{place}: {key} is missing" for key in sorted(required - found.keys()))
    yield from (f"{place}: {key} is not known" for key in sorted(found.keys() - allowed))


def _common(place: str, keyed: Json) -> Problems:
    """Rules for a key at any level."""
    yield from _availability(place, keyed)
    if keyed.get("qos", 0) not in {0, 1, 2} or isinstance(keyed.get("qos"), bool):
        yield f"{place}: qos {keyed['qos']!r} is not 0, 1 or 2"
    for key, value in keyed.items():
        if key.endswith("topic"):
            yield from _topic(f"{place}: {key}", value, published=key == "command_topic")
        if key.endswith("template"):
            yield from _template(f"{place}: {key}", value)


def _availability(place: str, keyed: Json) -> Problems:
    if {"availability", "availability_topic"} <= keyed.keys():
        yield f"{place}: availability and availability_topic exclude each other"
    if keyed.get("availability_mode", "latest") not in {"all", "any", "latest"}:
        yield f"{place}: availability_mode {keyed['availability_mode']!r} is not known"
    for source in keyed.get("availability", []):
        yield from _keys(
            f"{place}: availability", source, PAYLOADS | {"topic", "value_template"}, {"topic"}
        )
        yield from _common(f"{place}: availability", source)


def _topic(place: str, topic: object, *, published: bool) -> Problems:
    if not isinstance(topic, str) or not topic or "\0" in topic:
        yield f"{place} {topic!r} is no topic"
    elif published and set("+#") & set(topic):
        yield f"{place} {topic!r} has wildcards, to which nothing can be published"


def _template(place: str, template: object) -> Problems:
    try:
        TEMPLATES.parse(str(template))
    except jinja2.TemplateSyntaxError as error:
        yield f"{place} is no template: {error.message}"


def _device(device: Json) -> Problems:
    yield from _keys("device", device, DEVICE, set())
    if not (device.get("identifiers") or device.get("connections")):
        yield "device: neither identifiers nor connections are set"
    url = device.get("configuration_url", "http://")
    if not url.startswith(("http://", "https://", "homeassistant://")):
        yield f"device: configuration_url {url!r} is no address"


def _unique_ids(components: Json) -> Problems:
    counted = Counter(one["unique_id"] for one in components.values() if "unique_id" in one)
    yield from (f"unique_id: {name} is not unique" for name, count in counted.items() if count > 1)


def _identity(key: str, entity: Json) -> Problems:
    if "name" in entity and not isinstance(entity["name"], str | None):
        yield f"{key}: name {entity['name']!r} is neither text nor null"
    if "icon" in entity and not ICON.fullmatch(entity["icon"]):
        yield f"{key}: icon {entity['icon']!r} has not the form set:name"
    if "default_entity_id" in entity:
        entity_id = ENTITY_ID.fullmatch(entity["default_entity_id"])
        if entity_id is None or entity_id["platform"] != entity["platform"]:
            yield f"{key}: default_entity_id {entity['default_entity_id']!r} is invalid"
    categories = {"diagnostic"} if "sensor" in entity["platform"] else {"diagnostic", "config"}
    if entity.get("entity_category", "diagnostic") not in categories:
        yield f"{key}: entity_category {entity['entity_category']!r} is invalid"
    if not _is_positive(entity.get("expire_after", 1)):
        yield f"{key}: expire_after {entity['expire_after']!r} is no positive number of seconds"
    if not entity.get("event_types", True):
        yield f"{key}: event_types is empty"


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _sensor(key: str, sensor: Json) -> Problems:
    device_class, unit = sensor.get("device_class"), sensor.get("unit_of_measurement")
    if sensor.get("state_class") not in {None, *STATE_CLASSES}:
        yield f"{key}: state_class {sensor['state_class']!r} is not known"
    if "last_reset_value_template" in sensor and sensor.get("state_class") != "total":
        yield f"{key}: last_reset_value_template is for state_class total"
    if device_class in UNITS and unit not in UNITS[device_class]:
        yield f"{key}: unit_of_measurement {unit!r} is none of {device_class}"
    if device_class == "enum" or "options" in sensor:
        yield from _choice(key, sensor)


def _choice(key: str, sensor: Json) -> Problems:
    """A sensor whose values are options of a list."""
    if sensor.get("device_class") != "enum":
        yield f"{key}: options are for device_class enum"
    if "options" in sensor and not sensor["options"]:
        yield f"{key}: options is empty"
    for figure in ("state_class", "unit_of_measurement"):
        if sensor.get(figure) is not None:
            yield f"{key}: {figure} is for numbers, not for options"
