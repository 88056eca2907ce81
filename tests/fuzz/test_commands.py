"""Invalid commands from a real broker, and invalid password files."""

import signal
from pathlib import Path
from random import Random

import pytest
from drawing import draw_scene
from fuzz.generated import many
from fuzz.program import run
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from publishing.broker import Mosquitto, end_client, subscribed
from publishing.fixtures import Logs
from running import PATIENCE, RunningProgram, camera, running

from edge_daemon.capture.status import Pause
from edge_daemon.config.settings import MqttSettings
from edge_daemon.errors import SettingsError
from edge_daemon.publishing.broker import broker_from
from edge_daemon.publishing.commands import Delivery, PauseCommands
from edge_daemon.publishing.messages import Received

TOPICS = ("edge-daemon/porch/set/paused", "homeassistant/status")
PAYLOADS = [
    b"",
    b"on",
    b"ON ",
    b"\xff\x00",
    b"{}",
    b"ON\0",
    Random(0).randbytes(2000),
    b"x" * 200_000,
]

received = st.builds(
    Received,
    st.sampled_from([*TOPICS, "", "/", "edge-daemon/porch/set/paused/x", "\u202e"]),
    st.binary(max_size=40) | st.sampled_from([*PAYLOADS, b"ON", b"OFF"]),
    st.booleans(),
)


@many(100)
@given(messages=st.lists(received, min_size=1, max_size=6))
def test_commands_any_messages_keep_only_the_valid_ones(
    logs: Logs, messages: list[Received]
) -> None:
    logs.records.clear()
    commands = PauseCommands(TOPICS[0], Pause(), lambda: True, lambda: None)
    deliveries = [Delivery(message) for message in messages]
    for delivery in deliveries:
        commands.submit(delivery)
    valid = [
        message
        for message in messages
        if not message.retained and message.payload in {b"ON", b"OFF"}
    ]
    assert sum(delivery.is_complete for delivery in deliveries) == len(messages) - bool(valid)
    assert (commands._waiting is not None) == bool(valid)
    assert len(logs.records) <= 2


def odd_properties() -> Properties:
    """All properties that a publisher may set."""
    properties = Properties(PacketTypes.PUBLISH)
    properties.PayloadFormatIndicator = 1
    properties.MessageExpiryInterval = 4294967295
    properties.ContentType = "x" * 1000
    properties.ResponseTopic = "edge-daemon/porch/set/paused"
    properties.CorrelationData = Random(1).randbytes(100)
    properties.UserProperty = [("a" * 500, "\u202e")] * 10
    return properties


def assert_obeys(program: RunningProgram, speaker: paho.Client, word: str, state: str) -> None:
    speaker.publish(TOPICS[0], word, qos=1).wait_for_publish(PATIENCE)
    program.wait_for(state)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_daemon_survives_odd_messages_of_a_broker(tmp_path: Path, protocol: str) -> None:
    with (
        Mosquitto(tmp_path) as broker,
        camera(draw_scene((60, 60, 120))) as live,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
    ):
        speaker = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        speaker.connect("127.0.0.1", broker.port)
        speaker.loop_start()
        for topic in TOPICS:
            speaker.publish(topic, b"ON", qos=1, retain=True).wait_for_publish(PATIENCE)
        settings = ("mqtt.host=127.0.0.1", f"mqtt.port={broker.port}", "device_id=porch")
        words = [word for setting in settings for word in ("--set", setting)]
        words += ["--set", f"mqtt.protocol={protocol}", "--source", live.url, "--detector", "haar"]
        with running(tmp_path, *words) as program:
            # Published after the subscription.
            subscriber.wait_until(lambda: bool(subscriber.on("event")))
            # With MQTT 3.1.1, the broker sends packets of any size, and such end the connection.
            sent = [one for one in PAYLOADS if protocol == "5" or len(one) < 60_000]
            for payload in sent * 3:
                for topic in TOPICS:
                    message = speaker.publish(topic, payload, qos=1, properties=odd_properties())
                    message.wait_for_publish(PATIENCE)
            speaker.publish(TOPICS[0], b"ON", qos=1).wait_for_publish(PATIENCE)
            subscriber.wait_until(
                lambda: any(b'"paused":true' in one for one in subscriber.payloads("state"))
            )
            code, _ = program.end(signal.SIGTERM)
        end_client(speaker)
    assert code == 0
    log = "\n".join(program.err)
    assert "Traceback" not in log
    assert log.count("invalid command ignored") == 1
    assert "no connection to the broker" not in log


@many(60)
@given(content=st.binary(max_size=60) | st.sampled_from([b"\n", b"\0", b"a\0b\n"]))
def test_password_file_any_content_gives_first_line_or_error(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    try:
        broker = broker_from(MqttSettings(username="ann", password_file=file))
    except SettingsError as refusal:
        (problem,) = refusal.problems
        assert problem.startswith("mqtt.password_file: cannot be read: ")
        assert f"(got {file}); " in problem
    else:
        assert broker.password is not None
        assert "\n" not in broker.password
        assert len(broker.password.encode()) <= 65535


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("password_file", "/dev/zero"),
        ("password_file", "/proc/self/mem"),
        ("password_file", "/"),
        ("ca_file", "/"),
        ("ca_file", "/dev/null"),
        ("ca_file", "/proc/self/mem"),
        ("certificate_file", "/nowhere"),
        ("certificate_file", "/proc/self/mem"),
        ("key_file", "/"),
    ],
)
def test_special_file_as_setting_is_refused(
    tmp_path: Path, drawn_clip: Path, key: str, place: str
) -> None:
    words = ["--set", "mqtt.username=ann", "--set", f"mqtt.{key}={place}"]
    if key != "password_file":
        words += ["--set", "mqtt.tls=true"]
    done = run("--source", drawn_clip, *words, state=tmp_path)
    done.assert_orderly()
    (refusal,) = done.refusals
    assert done.code == 2
    assert f"mqtt.{key}" in refusal


def test_special_file_as_systemd_credential_is_refused(tmp_path: Path, drawn_clip: Path) -> None:
    (tmp_path / "mqtt-password").write_bytes(b"\xff\xfe")
    words = ("--source", drawn_clip, "--set", "mqtt.username=ann")
    done = run(*words, state=tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path))
    (refusal,) = done.refusals
    assert done.code == 2
    assert "mqtt.password_file: cannot be read: " in refusal
    assert "mqtt-password); " in refusal
