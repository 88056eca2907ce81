"""The examples for other programs refer to topics, fields, entities and metrics that exist."""

import asyncio
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args

import aiomqtt
import documents
import jinja2
import pytest
import yaml
from payloads import encoded, event, health, state
from publishing.broker import Mosquitto, include_as_debian

from edge_daemon.config.settings import HomeAssistantSettings
from edge_daemon.publishing import homeassistant
from edge_daemon.publishing.messages import MessageKind, Topics
from edge_daemon.publishing.subscription import MODELS
from edge_daemon.records import EMOTIONS, EventKind
from edge_daemon.schema import SourceState

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_readme_lists_every_example() -> None:
    listed = re.findall(r"^\| \[([^]]+)\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file()}
    files = {name for name in files if not name.endswith((".pyc", "README.md"))}
    assert set(listed) == files


# Node-RED


def nodes() -> dict[str, dict[str, Any]]:
    flow = json.loads((EXAMPLES / "node-red/flow.json").read_text())
    found = {node["id"]: node for node in flow}
    assert len(found) == len(flow)
    return found


def test_flow_wires_and_brokers_exist() -> None:
    found = nodes()
    for node in found.values():
        for output in node.get("wires", []):
            assert found.keys() >= set(output)
        if "broker" in node and node["type"] != "mqtt-broker":
            assert found[node["broker"]]["type"] == "mqtt-broker"
        if node["type"] == "switch":
            assert len(node["wires"]) == node["outputs"] == len(node["rules"])


def test_flow_topics_fields_and_values_exist() -> None:
    found = nodes()
    topics = Topics("edge-daemon", "porch")
    subscribed = {node["topic"] for node in found.values() if node["type"] == "mqtt in"}
    assert subscribed == {topic.replace("porch", "+") for topic in (topics.event, topics.health)}
    (out,) = (node for node in found.values() if node["type"] == "mqtt out")
    assert out["topic"] == topics.set_paused
    assert found["edkind"]["property"] == "payload.kind"
    assert {rule["v"] for rule in found["edkind"]["rules"]} == set(EventKind)
    assert "source" in MODELS[MessageKind.HEALTH].model_fields
    assert found["edsource"]["rules"][0]["v"] == SourceState.LOST
    fields = MODELS[MessageKind.EVENT].model_fields
    for name in ("edchanged", "edleft"):
        assert found[name]["complete"].removeprefix("payload.") in fields


def test_flow_function_drops_duplicates_and_unknown_schemas() -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("needs node")
    one, two = (json.loads(encoded(event(number))) for number in (1, 2))
    messages = [
        {"topic": "edge-daemon/hall/event", "payload": payload}
        for payload in (one, one, two, two | {"schema": 2, "event_id": "x"})
    ]
    code = f"""
        const stored = {{}};
        const set = (key, value) => {{ stored[key] = value; }};
        const context = {{get: (key) => stored[key], set}};
        const handle = new Function("msg", "context", {json.dumps(nodes()["edunique"]["func"])});
        const out = {json.dumps(messages)}.map((msg) => handle(msg, context));
        console.log(JSON.stringify(out.map((msg) => msg && [msg.device, msg.payload.sequence])));
    """
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["hall", 1], None, ["hall", 2], None]


# Home Assistant


class _Loader(yaml.SafeLoader):
    """YAML with Home Assistant's `!input`."""


_Loader.add_constructor("!input", lambda loader, node: f"input:{loader.construct_scalar(node)}")


def loaded(name: str) -> Any:
    return yaml.load((EXAMPLES / "home-assistant" / name).read_text(), _Loader)


def components() -> dict[str, Any]:
    topics = Topics("edge-daemon", "porch")
    message = homeassistant.discovery(topics, HomeAssistantSettings())
    return json.loads(message.payload)["components"]


def test_package_entities_exist() -> None:
    entities = {one.get("default_entity_id") for one in components().values()}
    text = (EXAMPLES / "home-assistant/package.yaml").read_text()
    named = set(re.findall(r"\b(?:sensor|switch|event|binary_sensor)\.porch\w*", text))
    assert named <= entities
    assert named
    triggers = [one["triggers"] for one in loaded("package.yaml")["automation"]]
    assert all(trigger[0]["trigger"] == "time" for trigger in triggers)


@pytest.mark.parametrize(
    ("emotion", "mood"), [("happy", "good"), ("sad", "low"), ("none", "away"), ("neutral", "even")]
)
def test_package_template_renders(emotion: str, mood: str) -> None:
    template = loaded("package.yaml")["template"][0]["sensor"][0]["state"]
    rendered = jinja2.Template(template).render(states=lambda _: emotion)
    assert rendered.strip() == mood
    assert emotion in components()["emotion"]["options"]


def test_blueprint_inputs_are_used_and_values_exist() -> None:
    blueprint = loaded("blueprint.yaml")
    inputs = blueprint["blueprint"]["input"]
    text = (EXAMPLES / "home-assistant/blueprint.yaml").read_text()
    assert set(re.findall(r"!input (\w+)", text)) == set(inputs)
    assert set(inputs["emotion"]["selector"]["select"]["options"]) == set(EMOTIONS)
    condition = blueprint["conditions"][0]["value_template"]
    assert set(re.findall(r"'(\w+)'", condition)) == {EventKind.EMOTION_CHANGED}
    for attribute in set(re.findall(r"attributes\.(\w+)", condition)) - {"event_type"}:
        assert attribute in MODELS[MessageKind.EVENT].model_fields
    jinja2.Environment().parse(condition)


# Grafana


def test_dashboard_metrics_and_labels_exist() -> None:
    dashboard = json.loads((EXAMPLES / "grafana/dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    metrics = documents.metric_samples()
    for expression in expressions:
        for name in re.findall(r"\b(?:edge_daemon|process)_\w+", expression):
            assert name in metrics or name.startswith("process_resident")
    legends = [
        target["legendFormat"] for panel in dashboard["panels"] for target in panel["targets"]
    ]
    labels = {label for legend in legends for label in re.findall(r"{{(\w+)}}", legend)}
    assert labels <= {"instance"} | set().union(*metrics.values())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


# Prometheus


ALERTS = EXAMPLES / "prometheus/alerts.yml"


def test_alert_metrics_exist() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    metrics = documents.metric_samples()
    for rule in group["rules"]:
        names = re.findall(r"\bedge_daemon_\w+", rule["expr"])
        assert set(names) <= metrics.keys()
        assert names or rule["expr"].startswith("up{")


def test_alert_rules_fire_as_expected(tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("needs promtool (Debian package prometheus)")
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    subprocess.run([promtool, "check", "rules", "alerts.yml"], cwd=tmp_path, check=True)
    subprocess.run([promtool, "test", "rules", "alerts_test.yml"], cwd=tmp_path, check=True)


# Telegraf


PAYLOADS = {MessageKind.STATE: state(), MessageKind.EVENT: event(1), MessageKind.HEALTH: health()}


def telegraf_inputs() -> list[dict[str, Any]]:
    text = (EXAMPLES / "telegraf/telegraf.conf").read_text()
    return list(tomllib.loads(text)["inputs"]["mqtt_consumer"])


def value_at(path: str, content: Any) -> Any:
    """The value at a path of keys."""
    for key in path.split("."):
        content = content[key]
    return content


def test_telegraf_topics_exist() -> None:
    topics = Topics("edge-daemon", "+")
    subscribed = [topic for each in telegraf_inputs() for topic in each["topics"]]
    assert subscribed == [topics.state, topics.event, topics.health]
    for each in telegraf_inputs():
        (parsing,) = each["topic_parsing"]
        assert [parsing["topic"]] == each["topics"]
        assert parsing["tags"].split("/") == ["_", "device", "_"]


@pytest.mark.parametrize("number", range(3))
def test_telegraf_paths_and_types_match_payloads(number: int) -> None:
    one = telegraf_inputs()[number]
    kind = MessageKind(one["topics"][0].rpartition("/")[2])
    content = json.loads(encoded(PAYLOADS[kind]))
    (parser,) = one["json_v2"]
    types = {"int": int, "float": (int, float), "string": str, "bool": bool}
    for field in parser["field"]:
        value = value_at(field["path"], content)
        assert isinstance(value, types[field["type"]]), field
    for tag in parser.get("tag", ()):
        assert isinstance(value_at(tag["path"], content), str | int)
    for each in parser.get("object", ()):
        assert set(value_at(each["path"], content)) == set(EMOTIONS)
    time = value_at(parser["timestamp_path"], content)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", time)


@pytest.mark.parametrize("number", range(3))
def test_telegraf_nullable_paths_are_optional(number: int) -> None:
    one = telegraf_inputs()[number]
    model = MODELS[MessageKind(one["topics"][0].rpartition("/")[2])]
    (parser,) = one["json_v2"]
    for each in (*parser["field"], *parser.get("object", ())):
        annotation = model.model_fields[each["path"].partition(".")[0]].annotation
        assert each.get("optional", False) == (type(None) in get_args(annotation)), each


# mosquitto


class HomeBroker(Mosquitto):
    """mosquitto with the example's configuration, on a free port and in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {"porch": "right"})
        text = (EXAMPLES / "mosquitto/home.conf").read_text()
        text = text.replace("listener 1883", f"listener {self.port} 127.0.0.1")
        passwords = re.search(r"password_file (\S+)", self._config.read_text())
        assert passwords is not None
        text = text.replace("/etc/mosquitto/passwords", passwords[1])
        include_as_debian(self._config, text)


@pytest.mark.broker
def test_home_broker_requires_password(tmp_path: Path) -> None:
    with HomeBroker(tmp_path) as broker:
        assert not asyncio.run(accepted(broker.port, "porch", "wrong"))
        assert not asyncio.run(accepted(broker.port, None, None))
        assert asyncio.run(accepted(broker.port, "porch", "right"))


async def accepted(port: int, user: str | None, password: str | None) -> bool:
    """Whether the broker accepts a login and a message."""
    try:
        async with aiomqtt.Client("127.0.0.1", port, username=user, password=password) as client:
            await client.publish("a", "b", qos=1)
    except aiomqtt.MqttError:
        return False
    return True
