"""The device and the examples in a real Home Assistant, which the daemon reaches over MQTT."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drawing import draw_scene
from home_assistant.server import ROOT, HomeAssistant, Json
from payloads import encoded, event
from publishing.broker import Mosquitto, Subscriber, subscribed
from running import RunningProgram, broker_at, camera, free_port, running

from edge_daemon.config.settings import HomeAssistantSettings
from edge_daemon.publishing import homeassistant
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.client import publish_single
from edge_daemon.publishing.messages import Topics
from edge_daemon.records import EMOTIONS, EventKind

pytestmark = pytest.mark.timeout(300)  # the first start of Home Assistant takes a while

EXAMPLES = ROOT / "examples/home-assistant"
BLUEPRINT = "edge-daemon/emotion_event.yaml"
DISCOVERY = "device/edge_daemon_porch/config"


@dataclass(frozen=True)
class Home:
    """Home Assistant, a broker, and the daemon `porch` with a camera that shows a face."""

    hass: HomeAssistant
    broker: Mosquitto
    discovery: Subscriber
    camera_url: str
    state_dir: Path

    def daemon(
        self, device_id: str, *options: str, source: str | None = None
    ) -> AbstractContextManager[RunningProgram]:
        return running(
            self.state_dir,
            *("--source", source or self.camera_url, "--detector", "haar"),
            *("--set", f"device_id={device_id}", *broker_at(self.broker.port)),
            *options,
        )

    def device(self, name: str) -> Json | None:
        """The device of this name in Home Assistant's registry."""
        devices = self.hass.command("config/device_registry/list")
        return next((one for one in devices if one["name"] == name), None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    configuration = folder / "config"
    packages, blueprint = configuration / "packages", configuration / "blueprints/automation"
    packages.mkdir(parents=True)
    shutil.copy(EXAMPLES / "package.yaml", packages / "porch_mood.yaml")
    (blueprint / BLUEPRINT).parent.mkdir(parents=True)
    shutil.copy(EXAMPLES / "blueprint.yaml", blueprint / BLUEPRINT)
    with (
        HomeAssistant(configuration) as hass,
        Mosquitto(folder) as broker,
        camera(draw_scene((60, 60, 120))) as live,
        subscribed(broker.port, "homeassistant") as discovery,
    ):
        started = Home(hass, broker, discovery, live.url, folder)
        with started.daemon("porch"):
            discovery.wait_until(lambda: bool(discovery.on(DISCOVERY)))
            hass.configure_mqtt(broker.port)
            hass.wait_for_state("sensor.porch_faces", state="1")
            yield started


def components() -> Json:
    message = homeassistant.discovery(Topics("edge-daemon", "porch"), HomeAssistantSettings())
    return json.loads(message.payload)["components"]


ENTITIES = {
    one["default_entity_id"]: one
    for one in components().values()
    if one["platform"] != "device_automation"
}
CPU_TEMPERATURE = "sensor.porch_cpu_temperature"
TRIGGERS = {
    (one["type"], one["subtype"])
    for one in components().values()
    if one["platform"] == "device_automation"
}


def test_birth_message_is_answered_with_discovery(home: Home) -> None:
    home.discovery.wait_until(lambda: bool(home.discovery.on("status")))
    birth = home.discovery.messages.index(home.discovery.on("status")[0])

    def is_answered() -> bool:
        later = home.discovery.messages[birth:]
        return any(message.topic == f"homeassistant/{DISCOVERY}" for message in later)

    home.discovery.wait_until(is_answered)


def test_entities_exist_by_id_and_name(home: Home) -> None:
    def registered() -> dict[str, Json]:
        listed = home.hass.command("config/entity_registry/list")
        return {one["entity_id"]: one for one in listed}

    home.hass.wait_until(lambda: ENTITIES.keys() - {CPU_TEMPERATURE} <= registered().keys())
    registry = registered()
    for entity_id, entity in ENTITIES.items():
        if entity_id == CPU_TEMPERATURE and entity_id not in registry:
            continue  # this machine has no sensor
        found = registry[entity_id]
        assert found["original_name"] == entity["name"]
        is_disabled = entity.get("enabled_by_default") is False
        assert found["disabled_by"] == ("integration" if is_disabled else None)
    enabled = {key for key in registry if key in ENTITIES and not registry[key]["disabled_by"]}

    def are_available() -> bool:
        states = home.hass.states()
        return all(key in states and states[key]["state"] != "unavailable" for key in enabled)

    home.hass.wait_until(are_available)
    home.hass.wait_for_state("binary_sensor.porch_presence", state="on")
    home.hass.wait_for_state("binary_sensor.porch_connectivity", state="on")
    states = home.hass.states()
    assert states["sensor.porch_emotion"]["attributes"]["friendly_name"] == "porch Emotion"


def test_device_page_names_the_program(home: Home) -> None:
    device = home.device("porch")
    assert device is not None
    assert (device["manufacturer"], device["model"]) == ("edge-daemon", "Emotion camera")


def offered_triggers(home: Home) -> list[Json]:
    """The device's triggers, as the editor of automations lists them."""
    device = home.device("porch")
    assert device is not None
    triggers = home.hass.command("device_automation/trigger/list", device_id=device["id"])
    return [one for one in triggers if one["domain"] == "mqtt"]


def test_device_triggers_are_offered(home: Home) -> None:
    assert {(one["type"], one["subtype"]) for one in offered_triggers(home)} == TRIGGERS


def add_automation(hass: HomeAssistant, name: str, automation: Json) -> None:
    """Save an automation as its editor does."""
    hass.request(f"/api/config/automation/config/{name}", {"alias": name} | automation)
    hass.wait_until(lambda: f"automation.{name}" in hass.states())


def has_run(hass: HomeAssistant, name: str) -> bool:
    return hass.states()[f"automation.{name}"]["attributes"]["last_triggered"] is not None


def publish_event(home: Home, sequence: int, kind: EventKind, emotion: str) -> Json:
    message = encoded(event(sequence, kind, emotion=emotion, at=datetime.now(UTC)))
    with subscribed(home.broker.port, "edge-daemon/porch") as client:
        client.publish("event", message)
    return json.loads(message)


NOTIFY: Json = {"action": "persistent_notification.create", "data": {"message": "hello"}}


def test_device_trigger_runs_an_automation(home: Home) -> None:
    for emotion in ("surprise", "fear"):
        (trigger,) = (one for one in offered_triggers(home) if one["subtype"] == emotion)
        automation = {"triggers": [trigger], "actions": [NOTIFY]}
        add_automation(home.hass, f"on_{emotion}", automation)
    publish_event(home, 1001, EventKind.EMOTION_CHANGED, "surprise")
    home.hass.wait_until(lambda: has_run(home.hass, "on_surprise"))
    assert not has_run(home.hass, "on_fear")


def test_event_entity_and_logbook_show_the_event(home: Home) -> None:
    started = datetime.now(UTC)
    message = publish_event(home, 1002, EventKind.LEFT, "sad")

    def attributes() -> Json:
        return home.hass.states()["event.porch_face_event"]["attributes"]

    home.hass.wait_until(lambda: attributes().get("sequence") == 1002)
    attributes_now = attributes()
    assert attributes_now["event_type"] == "left"
    fields = ("emotion", "track_id", "duration", "probabilities", "started")
    assert {key: attributes_now[key] for key in fields} == {key: message[key] for key in fields}

    def logged() -> list[Json]:
        return home.hass.command(
            "logbook/get_events",
            start_time=started.isoformat(),
            entity_ids=["event.porch_face_event"],
        )

    home.hass.wait_until(logged)


def test_pause_switch_closes_the_camera(home: Home) -> None:
    home.hass.call("switch.turn_on", entity_id="switch.porch_pause")
    home.hass.wait_for_state("switch.porch_pause", state="on")
    home.hass.wait_for_state("sensor.porch_faces", state="unknown")
    home.hass.call("switch.turn_off", entity_id="switch.porch_pause")
    home.hass.wait_for_state("sensor.porch_faces", state="1")


def test_package_example_derives_its_values(home: Home) -> None:
    states = home.hass.states()
    emotion = states["sensor.porch_emotion"]["state"]
    assert emotion in (*EMOTIONS, "uncertain", "none")
    assert states["sensor.porch_mood_today"]["state"] in ("good", "even", "low", "away")

    def has_count() -> bool:
        return home.hass.states()["sensor.porch_smiles_today"]["state"].isdigit()

    home.hass.wait_until(has_count)
    for name in ("pause_the_porch_camera_at_night", "resume_the_porch_camera_in_the_morning"):
        assert states[f"automation.{name}"]["state"] == "on"


def test_blueprint_example_runs_for_its_emotion(home: Home) -> None:
    for emotion in ("disgust", "angry"):
        inputs = {"face_event": "event.porch_face_event", "emotion": emotion, "actions": [NOTIFY]}
        blueprint = {"path": BLUEPRINT, "input": inputs}
        add_automation(home.hass, f"greet_{emotion}", {"use_blueprint": blueprint})
    publish_event(home, 1003, EventKind.EMOTION_CHANGED, "disgust")
    home.hass.wait_until(lambda: has_run(home.hass, "greet_disgust"))
    assert not has_run(home.hass, "greet_angry")


def test_stopped_device_is_unavailable(home: Home) -> None:
    with home.daemon("hall") as program:
        home.hass.wait_for_state("sensor.hall_faces", state="1")
        program.end(signal.SIGTERM)
    home.hass.wait_for_state("binary_sensor.hall_connectivity", state="off")
    home.hass.wait_for_state("sensor.hall_faces", state="unavailable")


def test_lost_camera_is_a_problem_while_offline(home: Home) -> None:
    missing = f"http://127.0.0.1:{free_port()}/stream"
    with home.daemon("cellar", "--set", "mqtt.stale_after=1", source=missing):
        home.hass.wait_for_state("binary_sensor.cellar_connectivity", state="off")
        home.hass.wait_for_state("binary_sensor.cellar_problem", state="on")
        home.hass.wait_for_state("sensor.cellar_faces", state="unavailable")


def test_log_has_no_warning(home: Home) -> None:
    """By now, every kind of message has arrived."""
    assert home.hass.problems() == []


def test_removed_device_disappears(home: Home) -> None:
    """The last test: Home Assistant logs warnings of its own when a device is removed."""
    message = homeassistant.discovery(Topics("edge-daemon", "attic"), HomeAssistantSettings())
    broker = Broker("127.0.0.1", home.broker.port)
    publish_single(broker, message)
    home.hass.wait_until(lambda: home.device("attic"))
    publish_single(broker, homeassistant.removal("attic", "homeassistant"))
    home.hass.wait_until(lambda: home.device("attic") is None)
    assert home.device("porch") is not None
