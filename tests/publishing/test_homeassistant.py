import json
import math
import re
import time
import tomllib
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from email.message import EmailMessage
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from builders import probabilities
from drawing import draw_scene
from jinja2.sandbox import ImmutableSandboxedEnvironment
from publishing import homeassistant_rules as rules
from publishing.broker import Mosquitto, subscribed
from running import PATIENCE, broker_at, camera, running

from edge_daemon import __version__, publishing
from edge_daemon.config.loading import load_settings
from edge_daemon.config.settings import HomeAssistantSettings, Settings
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.publishing import (
    OWNER_PLACEHOLDER,
    freshness_s,
    homeassistant,
    preview_url,
    support_url,
)
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.client import publish_single
from edge_daemon.publishing.messages import Message, Topics
from edge_daemon.publishing.state import OFFLINE, ONLINE
from edge_daemon.records import EMOTIONS, EventKind
from edge_daemon.schema import (
    DominantEmotion,
    EventMessage,
    EventQueueStatus,
    HealthMessage,
    SourceState,
    StateMessage,
    rounded,
)

Json = dict[str, Any]

GOLDEN = Path(__file__).with_name("homeassistant_discovery.json")
ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "home-assistant.md").read_text(encoding="utf-8")

AT = datetime(2026, 1, 1, tzinfo=UTC)
DISCOVERY = "device/edge_daemon_porch/config"
TOPICS = Topics("edge-daemon", "porch")


def discovered(device_id: str = "porch", name: str | None = None, **options: Any) -> Message:
    settings = HomeAssistantSettings(name=name)
    return homeassistant.discovery(Topics("edge-daemon", device_id), settings, **options)


def payload(**options: Any) -> Json:
    return json.loads(discovered(**options).payload)


COMPONENTS: Json = payload()["components"]
TRIGGERS = {key: one for key, one in COMPONENTS.items() if one["platform"] == "device_automation"}
ENTITIES = {key: one for key, one in COMPONENTS.items() if key not in TRIGGERS}


def test_discovery_payload_matches_the_golden_file() -> None:
    text = json.dumps(payload(), ensure_ascii=False, indent=2).replace(__version__, "1.2.3")
    assert text + "\n" == GOLDEN.read_text(encoding="utf-8")


def test_discovery_is_retained_with_qos_1_on_the_device_topic() -> None:
    message = discovered()
    assert message.topic == "homeassistant/device/edge_daemon_porch/config"
    assert (message.retain, message.qos) == (True, 1)


def test_discovery_removal_is_an_empty_retained_payload() -> None:
    message = homeassistant.removal("porch", "homeassistant")
    assert message == Message(discovered().topic, b"", retain=True, qos=1)


@pytest.mark.parametrize("prefix", ["homeassistant", "home/assistant"])
@pytest.mark.parametrize("device_id", ["porch", "Porch-1", "pi_4", "7"])
def test_discovery_any_id_and_prefix_follows_the_rules(device_id: str, prefix: str) -> None:
    message = homeassistant.discovery(
        Topics("house/edge", device_id),
        HomeAssistantSettings(prefix=prefix, expire_after=15, name='The "Küche"'),
        configuration_url="http://porch.local:8080/",
    )
    assert rules.problems(message.topic, message.payload) == []
    device = json.loads(message.payload)["device"]
    assert device["name"] == 'The "Küche"'
    assert device["configuration_url"] == "http://porch.local:8080/"


def test_origin_has_a_support_url_if_there_is_one() -> None:
    url = "https://example.org/edge-daemon"
    assert payload(support_url=url)["origin"]["support_url"] == url
    assert "support_url" not in payload()["origin"]


def package_metadata(*urls: str) -> EmailMessage:
    message = EmailMessage()
    for url in urls:
        message["Project-URL"] = url
    return message


@pytest.mark.parametrize(
    ("urls", "url"),
    [
        ([], None),
        (["Homepage, https://example.org/jo/edge-daemon"], "https://example.org/jo/edge-daemon"),
        (
            ["Issues, https://example.org/issues", "Homepage, https://example.org/"],
            "https://example.org/",
        ),
        ([f"Homepage, https://example.org{OWNER_PLACEHOLDER}edge-daemon"], None),
    ],
)
def test_support_url_is_the_homepage_once_filled_in(
    monkeypatch: pytest.MonkeyPatch, urls: list[str], url: str | None
) -> None:
    monkeypatch.setattr(publishing, "metadata", lambda _: package_metadata(*urls))
    assert support_url() == url


def test_support_url_without_installed_package_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> EmailMessage:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(publishing, "metadata", missing)
    assert support_url() is None


def test_support_url_placeholder_matches_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    url = project["project"]["urls"]["Homepage"]
    assert (OWNER_PLACEHOLDER in url) == ("OWNER" in url)


def test_device_without_name_has_its_id_as_name() -> None:
    assert payload()["device"]["name"] == "porch"


def test_two_devices_share_no_topic_and_no_id() -> None:
    one, other = (json.loads(discovered(name).payload) for name in ("porch", "hall"))
    assert discovered("porch").topic != discovered("hall").topic
    assert one["device"]["identifiers"] != other["device"]["identifiers"]
    for key in COMPONENTS:
        assert one["components"][key]["unique_id"] != other["components"][key]["unique_id"]
    for key in ENTITIES:
        name = "default_entity_id"
        assert one["components"][key][name] != other["components"][key][name]


def test_device_renamed_keeps_its_ids() -> None:
    named = json.loads(discovered(name="Front porch").payload)
    assert named["components"] == COMPONENTS


def test_entities_except_switch_event_and_connectivity_expire() -> None:
    expiring = {key for key, one in COMPONENTS.items() if one.get("expire_after") == 90}
    assert ENTITIES.keys() - expiring == {"pause", "face_event", "connectivity"}


def test_availability_uses_the_default_payloads() -> None:
    """The payload omits them because they are Home Assistant's defaults."""
    assert payload()["availability_topic"] == TOPICS.availability
    assert (ONLINE, OFFLINE) == (b"online", b"offline")


def abbreviated(full: Json) -> Json:
    short = {name: key for key, name in rules.ABBREVIATIONS.items()}
    device = {name: key for key, name in rules.DEVICE_ABBREVIATIONS.items()}
    origin = {name: key for key, name in rules.ORIGIN_ABBREVIATIONS.items()}

    def renamed(keyed: Json, names: dict[str, str]) -> Json:
        return {names.get(key, key): value for key, value in keyed.items()}

    parts = {
        "device": renamed(full["device"], device),
        "origin": renamed(full["origin"], origin),
        "components": {key: renamed(one, short) for key, one in full["components"].items()},
    }
    return renamed(full | parts, short)


def test_rules_expand_abbreviations() -> None:
    short = abbreviated(payload())
    assert {"dev", "o", "cmps", "avty_t"} <= short.keys()
    assert {"uniq_id", "stat_t", "exp_aft", "p"} <= short["cmps"]["emotion"].keys()
    assert rules.expanded(short) == payload()
    assert problems(short) == []


def problems(root: Json, topic: str = "homeassistant/device/edge_daemon_porch/config") -> list[str]:
    return rules.problems(topic, json.dumps(root).encode())


def change(root: Json, place: str, value: object) -> None:
    """Set the key at a path; None removes it."""
    *path, key = place.split(".")
    for step in path:
        root = root[step]
    root[key] = value
    if value is None:
        del root[key]


EMOTION = "components.emotion"
LIST = [{"topic": "edge-daemon/porch/availability"}]

MISTAKES = [
    ("device", None, "root: device is missing"),
    ("origin", None, "root: origin is missing"),
    ("components", None, "root: components is missing"),
    ("~", "edge-daemon/porch", "root: ~ is not known"),
    ("qos", 3, "root: qos 3 is not 0, 1 or 2"),
    ("availability", LIST, "root: availability and availability_topic exclude each other"),
    ("availability_mode", "some", "root: availability_mode 'some' is not known"),
    ("availability_topic", "", "root: availability_topic '' is no topic"),
    ("device.identifiers", [], "device: neither identifiers nor connections"),
    ("device.serial", "1", "device: serial is not known"),
    ("device.configuration_url", "porch.local", "device: configuration_url 'porch.local'"),
    ("origin.name", None, "origin: name is missing"),
    ("origin.version", "1", "origin: version is not known"),
    (f"{EMOTION}.platform", "camera_sensor", "emotion: platform 'camera_sensor' is not known"),
    (f"{EMOTION}.unique_id", None, "emotion: unique_id is missing"),
    ("components.faces.unique_id", "edge_daemon_porch_emotion", "unique_id: edge_daemon_porch_"),
    (f"{EMOTION}.object_id", "porch_emotion", "emotion: object_id is not known"),
    (f"{EMOTION}.default_entity_id", "porch_emotion", "default_entity_id 'porch_emotion'"),
    ("components.pause.default_entity_id", "sensor.porch", "default_entity_id 'sensor.porch'"),
    ("components.faces.default_entity_id", "sensor.Porch-1", "default_entity_id 'sensor.Porch-1'"),
    (f"{EMOTION}.state_topic", None, "emotion: state_topic is missing"),
    (f"{EMOTION}.command_topic", "a", "emotion: command_topic is not known"),
    (f"{EMOTION}.availability", LIST, "emotion: availability and availability_topic exclude"),
    (f"{EMOTION}.options", [], "emotion: options is empty"),
    (f"{EMOTION}.device_class", "temperature", "emotion: options are for device_class enum"),
    (f"{EMOTION}.state_class", "measurement", "emotion: state_class is for numbers"),
    (f"{EMOTION}.unit_of_measurement", "%", "emotion: unit_of_measurement is for numbers"),
    (f"{EMOTION}.expire_after", 0, "emotion: expire_after 0 is no positive number"),
    (f"{EMOTION}.name", 7, "emotion: name 7 is neither text nor null"),
    (f"{EMOTION}.icon", "smile", "emotion: icon 'smile' has not the form"),
    (f"{EMOTION}.qos", True, "emotion: qos True is not 0, 1 or 2"),
    (f"{EMOTION}.value_template", "{{ value_json.", "emotion: value_template is no template"),
    ("components.faces.state_class", "total_reset", "faces: state_class 'total_reset'"),
    ("components.faces.last_reset_value_template", "0", "faces: last_reset_value_template is for"),
    ("components.faces.entity_category", "config", "faces: entity_category 'config'"),
    ("components.presence.device_class", "eyes", "presence: device_class 'eyes' is none of"),
    ("components.presence.options", ["on"], "presence: options is not known"),
    ("components.pause.command_topic", None, "pause: command_topic is missing"),
    ("components.pause.expire_after", 90, "pause: expire_after is not known"),
    ("components.face_event.event_types", [], "face_event: event_types is empty"),
    ("components.cpu_temperature.unit_of_measurement", "C", "cpu_temperature: unit_of_measurement"),
    ("components.face_event.event_types", None, "face_event: event_types is missing"),
    ("components.pause.command_topic", "porch/+/set", "has wildcards"),
    ("availability", [{"payload_available": "up"}], "root: availability: topic is missing"),
]


@pytest.mark.parametrize(("place", "value", "reason"), MISTAKES)
def test_rules_report_a_mistake_with_its_reason(place: str, value: object, reason: str) -> None:
    root = payload()
    change(root, place, value)
    assert any(reason in line for line in problems(root)), problems(root)


@pytest.mark.parametrize(
    "topic",
    [
        "homeassistant/device/küche/config",
        "homeassistant/device/a b/config",
        "homeassistant/device/porch",
        "homeassistant/sensor/porch/config",
        "homeassistant/device/a/b/c/config",
    ],
)
def test_rules_report_a_topic_without_subscriber(topic: str) -> None:
    assert problems(payload(), topic) == [f"topic: {topic!r} is not listened to"]


def test_rules_allow_availability_list_and_entity_removal() -> None:
    root = payload()
    del root["availability_topic"]
    root["availability"] = LIST
    root["components"]["faces"] = {"platform": "sensor"}
    assert problems(root) == []


def rendered(key: str, message: str, template: str = "value_template") -> str:
    """The state that Home Assistant renders from a message for an entity."""
    environment = ImmutableSandboxedEnvironment()
    environment.filters["to_json"] = json.dumps
    return environment.from_string(COMPONENTS[key][template]).render(
        value=message, value_json=json.loads(message)
    )


def state(emotion: DominantEmotion = "happy", faces: int = 1, *, paused: bool = False) -> str:
    message = StateMessage(
        time=AT,
        faces=faces,
        emotion=emotion,
        since=AT,
        probabilities=rounded(probabilities(happy=0.7)) if faces else None,
        paused=paused,
    )
    return message.model_dump_json(by_alias=True)


def health(temperature: float | None = 51.2) -> str:
    message = HealthMessage(
        time=AT,
        uptime_s=60.0,
        version="1.2.3",
        bundle_id="bundle",
        source=SourceState.RUNNING,
        fps_in=15.0,
        fps_out=7.5,
        dropped={},
        latency_ms=None,
        cpu_temperature_c=temperature,
        throttled=None,
        memory_mb=120.0,
        members_active=2,
        members_total=2,
        detection_interval=1,
        stuck_services=(),
        event_queue=EventQueueStatus(depth=3, oldest_age_s=1.0, dropped=0, durable=True),
        reconnects=0,
    )
    return message.model_dump_json(by_alias=True)


def test_emotion_options_are_all_dominant_emotions() -> None:
    assert COMPONENTS["emotion"]["options"] == list(get_args(DominantEmotion))
    for emotion in get_args(DominantEmotion):
        assert rendered("emotion", state(emotion)) in COMPONENTS["emotion"]["options"]


def test_attributes_change_only_with_the_emotion() -> None:
    attributes = rendered("emotion", state(), "json_attributes_template")
    assert json.loads(attributes) == {"since": "2026-01-01T00:00:00.000Z"}


@pytest.mark.parametrize(("faces", "presence"), [(0, "OFF"), (1, "ON"), (3, "ON")])
def test_faces_give_count_and_presence(faces: int, presence: str) -> None:
    assert rendered("faces", state(faces=faces)) == str(faces)
    assert rendered("presence", state(faces=faces)) == presence


@pytest.mark.parametrize("key", ["emotion", "faces", "presence"])
def test_state_paused_is_unknown(key: str) -> None:
    assert rendered(key, state("none", 0, paused=True)) == "None"


@pytest.mark.parametrize(("paused", "position"), [(True, "ON"), (False, "OFF")])
def test_switch_reports_whether_the_camera_is_paused(paused: bool, position: str) -> None:  # noqa: FBT001
    assert rendered("pause", state(paused=paused)) == position
    assert COMPONENTS["pause"]["command_topic"] == TOPICS.set_paused


@pytest.mark.parametrize(
    ("key", "value"), [("frame_rate", "7.5"), ("cpu_temperature", "51.2"), ("queued_events", "3")]
)
def test_health_values_are_numbers(key: str, value: str) -> None:
    assert rendered(key, health()) == value


def test_temperature_missing_is_unknown() -> None:
    assert rendered("cpu_temperature", health(None)) == "None"


@pytest.mark.parametrize("kind", list(EventKind))
def test_event_has_an_allowed_type_and_all_fields(kind: EventKind) -> None:
    message = EventMessage(
        event_id=UUID(int=1),
        kind=kind,
        track_id=5,
        time=AT,
        emotion="sad",
        previous=None,
        started=AT,
        duration=1.5,
        probabilities=None,
        sequence=7,
        latency_ms=20.0,
    ).model_dump_json(by_alias=True)
    attributes = json.loads(rendered("face_event", message))
    assert attributes.pop("event_type") in COMPONENTS["face_event"]["event_types"]
    assert attributes.items() <= json.loads(message).items()
    assert {"emotion", "previous", "track_id", "duration"} <= attributes.keys()


def test_discovery_entities_have_unique_names() -> None:
    names = [one["name"] for one in ENTITIES.values()]
    assert None not in names
    assert len(set(names)) == len(names)
    assert COMPONENTS["emotion"]["name"] == "Emotion"


def fired(message: str) -> set[str]:
    """Keys of the triggers that an event message fires."""
    return {key for key, one in TRIGGERS.items() if rendered(key, message) == one["payload"]}


def event(kind: EventKind, emotion: str | None) -> str:
    return EventMessage(
        event_id=UUID(int=1),
        kind=kind,
        track_id=5,
        time=AT,
        emotion=emotion,
        previous=None,
        started=AT,
        duration=1.5,
        probabilities=None,
        sequence=7,
        latency_ms=20.0,
    ).model_dump_json(by_alias=True)


def test_triggers_fire_for_each_kind_and_new_emotion() -> None:
    assert fired(event(EventKind.APPEARED, "sad")) == {"trigger_appeared_face"}
    assert fired(event(EventKind.LEFT, None)) == {"trigger_left_face"}
    assert fired(event(EventKind.EMOTION_CHANGED, "happy")) == {
        "trigger_emotion_changed_face",
        "trigger_emotion_changed_happy",
    }
    assert len(TRIGGERS) == len(EventKind) + len(EMOTIONS)


PROBABILITIES = [f"probability_{emotion}" for emotion in EMOTIONS]


@pytest.mark.parametrize("key", PROBABILITIES)
def test_probability_is_a_disabled_measurement_in_percent(key: str) -> None:
    entity = COMPONENTS[key]
    assert (entity["enabled_by_default"], entity["state_class"]) == (False, "measurement")
    assert float(rendered(key, state())) == pytest.approx(70 if "happy" in key else 5, abs=0.1)
    assert rendered(key, state("none", 0)) == "None"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "OFF"),
        ({"source": "lost"}, "ON"),
        ({"source": "paused"}, "OFF"),
        ({"throttled": ["under_voltage"]}, "ON"),
        ({"throttled": []}, "OFF"),
        ({"stuck_services": ["commands"]}, "ON"),
        ({"event_queue": {"depth": 0, "durable": False}}, "ON"),
    ],
)
def test_problem_follows_the_health(change: Json, expected: str) -> None:
    assert rendered("problem", json.dumps(json.loads(health()) | change)) == expected


def test_connectivity_follows_the_availability() -> None:
    entity = COMPONENTS["connectivity"]
    assert (entity["payload_on"], entity["payload_off"]) == ("online", "offline")


def test_diagnostic_entities_only_are_available_while_offline() -> None:
    always = {key for key, one in ENTITIES.items() if one.get("availability_template") == "online"}
    diagnostic = {
        key for key, one in ENTITIES.items() if one.get("entity_category") == "diagnostic"
    }
    assert always == diagnostic > {"connectivity", "problem"}


def test_device_without_temperature_has_no_sensor() -> None:
    components = json.loads(discovered(has_temperature=False).payload)["components"]
    assert COMPONENTS.keys() - components.keys() == {"cpu_temperature"}


def test_entities_read_the_topics_of_their_values() -> None:
    sources = {key: one["state_topic"] for key, one in ENTITIES.items()}
    of_health = ("frame_rate", "cpu_temperature", "queued_events", "problem")
    of_state = ("emotion", "faces", "presence", "pause", *PROBABILITIES)
    assert sources == {
        **dict.fromkeys(of_state, TOPICS.state),
        **dict.fromkeys(of_health, TOPICS.health),
        "face_event": TOPICS.event,
        "connectivity": TOPICS.availability,
    }


def table_row(component: Json) -> str:
    """An entity as a row of the guide's table."""
    return f"| {component['name']} | `{component['default_entity_id']}` |"


def test_guide_lists_every_entity_once_in_order() -> None:
    rows = re.findall(r"^\| [^|]+ \| `[a-z_]+\.porch\w+` \|", GUIDE, re.MULTILINE)
    assert rows == [table_row(entity) for entity in ENTITIES.values()]


def test_guide_names_existing_entities_only() -> None:
    platforms = "|".join({one["platform"] for one in ENTITIES.values()})
    named = set(re.findall(rf"\b(?:{platforms})\.porch\w*", GUIDE))
    assert named == {one["default_entity_id"] for one in ENTITIES.values()}


def test_guide_lists_all_values_of_the_emotion() -> None:
    (row,) = (line for line in GUIDE.splitlines() if "sensor.porch_emotion` |" in line)
    assert re.findall(r"`(\w+)`", row) == COMPONENTS["emotion"]["options"]


def test_guide_example_has_valid_settings(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    file = tmp_path / "config.toml"
    file.write_text(example, encoding="utf-8")
    settings = load_settings(file).homeassistant
    assert settings == HomeAssistantSettings(name="Front porch")
    assert settings.model_fields_set == set(HomeAssistantSettings.model_fields)


def daemon(tmp_path: Path, port: int, source: str, *words: str) -> AbstractContextManager[object]:
    return running(
        tmp_path,
        *("--source", source, "--detector", "haar", "--set", "device_id=porch"),
        *broker_at(port),
        *words,
    )


def test_daemon_repeats_discovery_when_home_assistant_starts(tmp_path: Path) -> None:
    expected = homeassistant.discovery(
        TOPICS,
        HomeAssistantSettings(),
        support_url=support_url(),
        has_temperature=Hardware().cpu_temperature() is not None,
    ).payload
    with (
        Mosquitto(tmp_path) as broker,
        camera(draw_scene((60, 60, 120))) as live,
        subscribed(broker.port, "homeassistant") as listening,
        daemon(tmp_path, broker.port, live.url),
    ):
        listening.wait_for(DISCOVERY, expected)
        # The daemon subscribes after its discovery message.
        end = time.monotonic() + PATIENCE
        while len(listening.payloads(DISCOVERY)) == 1 and time.monotonic() < end:
            listening.publish("status", b"online")
            time.sleep(0.2)
        assert listening.payloads(DISCOVERY)[1:]
        assert set(listening.payloads(DISCOVERY)) == {expected}


def test_daemon_discovery_disabled_removes_the_device(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path) as broker,
        camera(draw_scene((60, 60, 120))) as live,
        subscribed(broker.port, "homeassistant") as listening,
    ):
        publish_single(Broker("127.0.0.1", broker.port), discovered())
        with daemon(tmp_path, broker.port, live.url, "--set", "homeassistant.discovery=false"):
            listening.wait_for(DISCOVERY, discovered().payload, b"")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (None, None),
        (("127.0.0.1", 8469), None),
        (("::1", 8469), None),
        (("localhost", 8469), None),
        (("192.0.2.7", 8469), "http://192.0.2.7:8469/"),
        (("2001:db8::7", 8469), "http://[2001:db8::7]:8469/"),
        (("porch.lan", 80), "http://porch.lan:80/"),
        (("0.0.0.0", 8469), "http://porch.local:8469/"),
        (("::", 8469), "http://porch.local:8469/"),
    ],
)
def test_preview_url_is_reachable_from_other_machines(
    monkeypatch: pytest.MonkeyPatch, address: tuple[str, int] | None, url: str | None
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "porch")
    assert preview_url(address) == url


def test_freshness_without_discovery_is_unlimited() -> None:
    section = HomeAssistantSettings(expire_after=30)
    assert freshness_s(Settings(homeassistant=section)) == 10
    without = section.model_copy(update={"discovery": False})
    assert freshness_s(Settings(homeassistant=without)) == math.inf
