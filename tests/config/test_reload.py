"""Settings that change while the program runs."""

import logging
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import clean_environment
from drawing import draw_scene
from publishing.broker import Mosquitto, subscribed
from running import PATIENCE, Camera, camera, eventually, running

from edge_daemon.config.loading import load_settings
from edge_daemon.config.reload import LiveSettings
from edge_daemon.config.settings import KeyPath, Settings
from edge_daemon.errors import SettingsError
from edge_daemon.schema import FacesMessage


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class Followers:
    """Notes which settings were in force whenever something was taken over."""

    def __init__(self, *names: str) -> None:
        self.live = LiveSettings(Settings())
        self.applied: list[str] = []
        for name in names:
            self.live.follow(name, self._note(name))

    def reload(self, changes: dict[KeyPath, object]) -> None:
        self.live.reload(lambda: load_settings(flags=changes))

    def _note(self, name: str) -> Callable[[Settings], None]:
        def note(wanted: Settings) -> None:
            assert wanted is self.live.in_force
            self.applied.append(name)

        return note


def test_what_is_followed_is_applied_and_the_rest_waits(caplog: pytest.LogCaptureFixture) -> None:
    followers = Followers("events", "mqtt.rate", "log_level")
    followers.reload(
        {
            ("events", "dwell"): 2,
            ("events", "margin"): 0.3,
            ("mqtt", "rate"): 1,
            ("mqtt", "host"): "elsewhere",
            ("source",): "0",
        }
    )
    assert followers.applied == ["events", "mqtt.rate"]
    in_force = followers.live.in_force
    assert (in_force.events.dwell, in_force.events.margin, in_force.mqtt.rate) == (2, 0.3, 1)
    assert (in_force.mqtt.host, in_force.source) == ("localhost", "picamera")
    (record,) = caplog.records
    assert record.applied == "events.dwell, events.margin, mqtt.rate"  # type: ignore[attr-defined]
    assert record.need_restart == "mqtt.host, source"  # type: ignore[attr-defined]


def test_what_is_as_it_was_is_not_applied(caplog: pytest.LogCaptureFixture) -> None:
    followers = Followers("events", "mqtt.rate")
    followers.reload({("events", "dwell"): 2})
    followers.reload({("events", "dwell"): 2})
    followers.reload({})
    assert followers.applied == ["events", "events"]
    assert followers.live.in_force == Settings()
    applied = [record.applied for record in caplog.records]  # type: ignore[attr-defined]
    assert applied == ["events.dwell", "nothing", "events.dwell"]


def test_what_needs_a_restart_is_told_until_then(caplog: pytest.LogCaptureFixture) -> None:
    followers = Followers("events")
    for _ in range(2):
        followers.reload({("mqtt", "port"): 1234})
    told = [record.need_restart for record in caplog.records]  # type: ignore[attr-defined]
    assert told == ["mqtt.port"] * 2


def test_bad_settings_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    followers = Followers("events", "mqtt.rate")

    def refused() -> Settings:
        raise SettingsError("mqtt.rate: too high", "evens: no such setting")

    before = followers.live.in_force
    followers.live.reload(refused)
    assert followers.live.in_force is before
    assert followers.applied == []
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.error == "mqtt.rate: too high; evens: no such setting"  # type: ignore[attr-defined]


@pytest.fixture
def live() -> Iterator[Camera]:
    with camera(draw_scene((60, 60, 120))) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text("")
    return file


def test_sighup_applies_what_was_changed_and_keeps_on_when_the_file_is_bad(
    tmp_path: Path, live: Camera, config: Path
) -> None:
    words = ("--config", config, "--source", live.url, "--sink", "jsonl", "--detector", "haar")
    with running(tmp_path, *words, "--set", "events.margin=0.2") as program:
        program.wait_for('"uncertain":false')
        config.write_text(
            "[smoothing]\nuncertain_below = 1.0\n[quality]\nmin_face = 20.5\n"
            "[events]\nmargin = 0.5\n[mqtt]\nhost = 'broker'\n"
        )
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("settings read again")
        program.wait_for('"uncertain":true')
        # The command line's margin still wins.
        program.wait_for('applied="quality.min_face, smoothing.uncertain_below"')
        program.wait_for("need_restart=mqtt.host")
        config.write_text("[smoothing]\nuncertain_below = 2\n[quality]\nmin_face = 900\n")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("settings cannot be read again")
        count = len(program.out)
        eventually(lambda: len(program.out) > count + 3)
        config.write_text("[quality]\nmin_face = 900\n")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for('"unscored":"too_small"')
        code, _ = program.end(signal.SIGTERM)
    assert code == 0
    (line,) = (line for line in program.err if "cannot be read again" in line)
    assert str(config) in line
    assert "uncertain_below: 2 is not possible: it must be less than or equal to 1" in line
    last = FacesMessage.model_validate_json(program.out[-1])
    assert not last.faces[0].uncertain


def test_sighup_changes_the_rate_and_the_log_level(
    tmp_path: Path, live: Camera, config: Path
) -> None:
    broker = Mosquitto(tmp_path)
    broker.start()
    config.write_text(f"device_id = 'porch'\n[mqtt]\nport = {broker.port}\nrate = 0.001\n")
    words = ("--config", config, "--source", live.url, "--detector", "haar")
    try:
        with (
            subscribed(broker.port, "edge-daemon/porch") as subscriber,
            running(tmp_path, *words) as program,
        ):
            subscriber.wait_until(lambda: bool(subscriber.on("event")))
            config.write_text(
                f"device_id = 'porch'\nlog_level = 'error'\n[mqtt]\nport = {broker.port}\n"
                "rate = 20\n[health]\ninterval = 1\n[tracking]\nmemory = 3.5\n"
            )
            program.process.send_signal(signal.SIGHUP)
            before, healths = len(subscriber.on("faces")), len(subscriber.on("health"))
            subscriber.wait_until(lambda: len(subscriber.on("faces")) > before + 5)
            subscriber.wait_until(lambda: len(subscriber.on("health")) > healths + 2)
            program.end(signal.SIGTERM)
    finally:
        broker.stop()
    assert "settings read again" not in "".join(program.err)
    assert "stopped" not in program.err[-1]


def test_terminal_that_is_closed_ends_the_program(tmp_path: Path, live: Camera) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [
            *("setsid", "--ctty", sys.executable, "-m", "edge_daemon"),
            *("--source", live.url, "--sink", "jsonl", "--detector", "haar"),
        ],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(tmp_path),
    )
    os.close(theirs)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert any(b"settings read again" in line for line in iter(process.stderr.readline, b""))
        os.close(ours)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait(PATIENCE)
    assert process.returncode == 0
