"""Settings that change while the program runs."""

import logging
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest
from conftest import clean_environment
from drawing import draw_scene
from publishing.broker import Mosquitto, subscribed
from running import PATIENCE, Camera, camera, eventually, running

from edge_daemon._lib.clock import SystemClock
from edge_daemon.config.loading import LiveSettings, Reloadable, load_settings
from edge_daemon.config.settings import (
    DetectionSettings,
    EventSettings,
    KeyPath,
    MqttSettings,
    QualitySettings,
    Section,
    Settings,
    is_reloadable,
    subsections,
)
from edge_daemon.daemon import build_pipeline
from edge_daemon.errors import SettingsError
from edge_daemon.schema import FacesMessage

S = TypeVar("S", bound=Section)


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class Follower:
    """Records the settings that it receives."""

    def __init__(self) -> None:
        self.applied: list[object] = []

    def apply(self, settings: object) -> None:
        self.applied.append(settings)


@pytest.fixture
def current() -> LiveSettings:
    return LiveSettings(Settings())


@pytest.fixture
def events(current: LiveSettings) -> Follower:
    follower = Follower()
    current.follow(EventSettings, follower)
    return follower


def reload(current: LiveSettings, changes: dict[KeyPath, object]) -> None:
    current.reload(lambda: load_settings(flags=changes))


def fields(caplog: pytest.LogCaptureFixture, name: str) -> list[object]:
    return [vars(record)[name] for record in caplog.records]


def test_reload_applies_reloadable_settings_and_names_the_others(
    current: LiveSettings, events: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    mqtt, quality, everything = Follower(), Follower(), Follower()
    current.follow(MqttSettings, mqtt)
    current.follow(QualitySettings, quality)
    current.follow(Settings, everything)
    reload(
        current,
        {
            ("events", "dwell"): 2,
            ("events", "margin"): 0.3,
            ("mqtt", "rate"): 1,
            ("mqtt", "host"): "elsewhere",
            ("source",): "0",
        },
    )
    assert events.applied == [EventSettings(dwell=2, margin=0.3)]
    assert mqtt.applied == [MqttSettings(rate=1)]
    assert quality.applied == []
    assert everything.applied == [current.current]
    assert (current.current.source, current.current.mqtt.host) == ("picamera", "localhost")
    assert fields(caplog, "applied") == ["events.dwell, events.margin, mqtt.rate"]
    assert fields(caplog, "need_restart") == ["mqtt.host, source"]


def test_reload_without_changes_applies_nothing(
    current: LiveSettings, events: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    reload(current, {("events", "dwell"): 2})
    reload(current, {("events", "dwell"): 2})
    reload(current, {})
    assert events.applied == [EventSettings(dwell=2), EventSettings()]
    assert current.current == Settings()
    assert fields(caplog, "applied") == ["events.dwell", "nothing", "events.dwell"]


def test_reload_names_a_needed_restart_each_time(
    current: LiveSettings, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        reload(current, {("mqtt", "port"): 1234})
    assert fields(caplog, "need_restart") == ["mqtt.port"] * 2


def test_reload_of_invalid_settings_changes_nothing(
    current: LiveSettings, events: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> Settings:
        raise SettingsError("mqtt.rate: too high", "evens: unknown setting")

    before = current.current
    current.reload(refused)
    assert current.current is before
    assert events.applied == []
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert fields(caplog, "error") == ["mqtt.rate: too high; evens: unknown setting"]


class RecordingSettings(LiveSettings):
    """Records which sections the parts of a daemon follow."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.followed: set[object] = set()

    def follow(self, section: type[S], part: Reloadable[S]) -> None:
        self.followed.add(section)
        super().follow(section, part)


def test_reloadable_sections_are_each_followed_by_a_part(tmp_path: Path) -> None:
    settings = Settings(source="http://camera/stream", sink="mqtt", state_dir=tmp_path)
    live = RecordingSettings(settings)
    with ExitStack() as resources:
        build_pipeline(settings, SystemClock(), resources, live_settings=live)
    sections = {
        section
        for section in subsections(Settings).values()
        if any(map(is_reloadable, section.model_fields.values()))
    }
    # The load shedder sets the detection interval, and follows all settings for it.
    assert sections - {DetectionSettings} <= live.followed
    assert Settings in live.followed


@pytest.fixture
def live() -> Iterator[Camera]:
    with camera(draw_scene((60, 60, 120))) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text("")
    return file


def test_sighup_applies_changes_and_ignores_a_bad_file(
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
        program.wait_for("settings reloaded")
        program.wait_for('"uncertain":true')
        # The command line's margin still wins.
        program.wait_for('applied="quality.min_face, smoothing.uncertain_below"')
        program.wait_for("need_restart=mqtt.host")
        config.write_text("[smoothing]\nuncertain_below = 2\n[quality]\nmin_face = 900\n")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("reload failed, settings unchanged")
        count = len(program.out)
        eventually(lambda: len(program.out) > count + 3)
        config.write_text("[quality]\nmin_face = 900\n")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for('"unscored":"too_small"')
        code, _ = program.end(signal.SIGTERM)
    assert code == 0
    (line,) = (line for line in program.err if "reload failed" in line)
    assert str(config) in line
    assert "smoothing.uncertain_below: must be less than or equal to 1 (got 2" in line
    messages = [FacesMessage.model_validate_json(line) for line in program.out]
    *_, last = (m for m in messages if m.faces and m.faces[0].unscored == "too_small")
    assert not last.faces[0].uncertain  # uncertain_below has its default again


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
                "rate = 20\n[health]\ninterval = 1\n[tracking]\nmax_age = 3.5\n"
            )
            program.process.send_signal(signal.SIGHUP)
            before, healths = len(subscriber.on("faces")), len(subscriber.on("health"))
            subscriber.wait_until(lambda: len(subscriber.on("faces")) > before + 5)
            subscriber.wait_until(lambda: len(subscriber.on("health")) > healths + 2)
            program.end(signal.SIGTERM)
    finally:
        broker.stop()
    assert "settings reloaded" not in "".join(program.err)
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
        assert any(b"settings reloaded" in line for line in iter(process.stderr.readline, b""))
        os.close(ours)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait(PATIENCE)
    assert process.returncode == 0
