"""Service notifications, received on a real socket."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import FakeClock, Program, clean_environment
from drawing import draw_scene
from monitoring.notify_listener import Systemd
from running import PATIENCE, camera, eventually, running

from edge_daemon._lib.clock import SystemClock
from edge_daemon.capture.status import SourceStatus
from edge_daemon.errors import PipelineError, SourceLost
from edge_daemon.monitoring.systemd import START_EXTENSION_S, SystemdNotifier, notifier_from
from edge_daemon.pipeline import Chain, Pipeline, Stage

BY_HAAR = ("--sink", "jsonl", "--detector", "haar")


class Stages:
    """The part of a pipeline that a watcher reads."""

    def __init__(self) -> None:
        self.finished = 0
        self.current_item_s = {"detection": 0.0, "inference": 0.0}


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    pytest.importorskip("systemd.daemon")
    listener = Systemd(tmp_path)
    yield listener
    listener.close()


@pytest.fixture
def source(clock: FakeClock) -> SourceStatus:
    return SourceStatus("camera", clock)


@pytest.fixture
def summary() -> list[str]:
    return ["ready"]


@pytest.fixture
def notifier(
    systemd: Systemd, source: SourceStatus, summary: list[str], clock: FakeClock
) -> SystemdNotifier:
    """A notifier with a watchdog timeout of 30 s."""
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "30000000"}
    made = notifier_from(environment, source, lambda: summary[-1], clock)
    assert made is not None
    return made


def look(notifier: SystemdNotifier, stages: object) -> None:
    notifier.poll(stages)  # type: ignore[arg-type]


def without_status(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("STATUS=")]


def test_notifier_without_socket_is_none(source: SourceStatus, clock: FakeClock) -> None:
    assert notifier_from({}, source, str, clock) is None


def test_notifier_removes_variables_from_the_environment(
    systemd: Systemd, source: SourceStatus, clock: FakeClock
) -> None:
    environment = {
        "NOTIFY_SOCKET": systemd.address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    notifier = notifier_from(environment, source, str, clock)
    assert environment == {"PATH": "/bin"}
    assert notifier is not None
    notifier.stopping()
    assert systemd.received() == ["STOPPING=1", "STATUS=stopping"]
    child = "import os; print(os.environ.get('NOTIFY_SOCKET'))"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_ready_after_the_first_finished_frame(
    notifier: SystemdNotifier, systemd: Systemd, source: SourceStatus
) -> None:
    stages = Stages()
    source.running()
    look(notifier, stages)
    assert "READY=1" not in systemd.received()
    stages.finished = 1
    look(notifier, stages)
    assert without_status(systemd.received()) == ["READY=1", "WATCHDOG=1"]
    stages.finished = 2
    look(notifier, stages)
    assert systemd.received() == []


def test_ready_with_a_paused_source(
    notifier: SystemdNotifier, systemd: Systemd, source: SourceStatus
) -> None:
    source.paused()
    look(notifier, Stages())
    assert "READY=1" in systemd.received()


def test_start_timeout_is_extended_while_the_camera_is_lost(
    notifier: SystemdNotifier, systemd: Systemd, source: SourceStatus, clock: FakeClock
) -> None:
    source.lost(SourceLost("not there"))
    for _ in range(40):
        look(notifier, Stages())
        clock.seconds += START_EXTENSION_S / 10
    assert (
        without_status(systemd.received())
        == [f"EXTEND_TIMEOUT_USEC={START_EXTENSION_S * 1e6:.0f}"] * 10
    )


def test_watchdog_messages_are_sent_thrice_per_timeout(
    notifier: SystemdNotifier, systemd: Systemd, clock: FakeClock
) -> None:
    stages = Stages()
    stages.finished = 1
    for _ in range(120):
        look(notifier, stages)
        clock.seconds += 0.25
    assert systemd.received().count("WATCHDOG=1") == 3


@pytest.mark.parametrize("change", ["lost", "paused"])
def test_watchdog_messages_continue_without_a_source(
    notifier: SystemdNotifier,
    systemd: Systemd,
    source: SourceStatus,
    clock: FakeClock,
    change: str,
) -> None:
    stages = Stages()
    stages.finished = 1
    look(notifier, stages)
    systemd.received()
    getattr(source, change)()
    clock.seconds += 10
    look(notifier, stages)
    assert without_status(systemd.received()) == ["WATCHDOG=1"]


def test_watchdog_messages_stop_while_a_stage_hangs(
    notifier: SystemdNotifier,
    systemd: Systemd,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    stages = Stages()
    stages.finished = 1
    look(notifier, stages)
    systemd.received()
    for _ in range(8):
        clock.seconds += 5
        stages.current_item_s["inference"] += 5
        look(notifier, stages)
    # One message while the frame can still be a slow one, then none.
    assert without_status(systemd.received()) == ["WATCHDOG=1"]
    stages.current_item_s["inference"] = 0.0
    look(notifier, stages)
    assert without_status(systemd.received()) == ["WATCHDOG=1"]
    hangs, goes_on = caplog.records
    assert (hangs.message, hangs.stage, hangs.seconds) == (  # type: ignore[attr-defined]
        "stage hangs, withholding watchdog messages",
        "inference",
        20.0,
    )
    assert goes_on.message == "stage resumed"


def test_status_is_sent_on_change_at_most_once_a_second(
    notifier: SystemdNotifier, systemd: Systemd, summary: list[str], clock: FakeClock
) -> None:
    stages = Stages()
    for words in ("running", "running", "lost", "running", "paused", "paused", "paused"):
        summary.append(words)
        look(notifier, stages)
        clock.seconds += 0.5
    lines = [line for line in systemd.received() if line.startswith("STATUS=")]
    assert lines == ["STATUS=running", "STATUS=lost", "STATUS=paused"]


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}],
)
def test_watchdog_of_another_process_gets_no_messages(
    systemd: Systemd, source: SourceStatus, clock: FakeClock, environment: dict[str, str]
) -> None:
    environment["NOTIFY_SOCKET"] = systemd.address
    notifier = notifier_from(environment, source, str, clock)
    assert notifier is not None
    stages = Stages()
    stages.finished = 1
    for _ in range(100):
        look(notifier, stages)
        clock.seconds += 5
    assert without_status(systemd.received()) == ["READY=1"]


def test_send_failure_is_logged_once(
    notifier: SystemdNotifier,
    systemd: Systemd,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    systemd.close()
    notifier.stopping()
    notifier.stopping()
    Path(systemd.address).unlink()
    again = Systemd(tmp_path)
    notifier.stopping()
    again.close()
    assert caplog.messages == ["sd_notify failed", "sd_notify recovered"]


class Endless:
    """An endless live capture, and a step that hangs at the second frame."""

    is_live = True
    name = "endless"

    def __init__(self) -> None:
        self.over = threading.Event()
        self._seen = 0

    def run(self, put, _busy) -> None:
        while not self.over.wait(0.01):
            put(0)

    def hang(self, _number: int) -> None:
        self._seen += 1
        if self._seen > 1:
            self.over.wait(PATIENCE)

    def restarted(self) -> "Endless":
        return self

    def abandon(self) -> None:
        self.over.set()


def test_pipeline_with_hanging_stage_stops_watchdog_and_ends(
    systemd: Systemd, source: SourceStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.pipeline.SUPERVISION_INTERVAL_S", 0.08)
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000000"}
    notifier = notifier_from(environment, source, str, SystemClock())
    assert notifier is not None
    capture = Endless()
    pipeline = Pipeline(
        capture, Chain.of(Stage("stuck", capture.hang, timeout_s=2.0)), watchers=[notifier]
    )
    with pytest.raises(PipelineError, match="stuck"):
        pipeline.run()
    lines = without_status(systemd.received())
    first, *watchdog, last = (line for line in lines if not line.startswith("EXTEND_TIMEOUT"))
    assert (first, last) == ("READY=1", "STOPPING=1")
    # More than one if the second item comes late; without the hang there are seven.
    assert set(watchdog) == {"WATCHDOG=1"}
    assert len(watchdog) <= 4


@pytest.fixture
def service(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start programs with the environment of a systemd service."""
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    monkeypatch.setenv("WATCHDOG_USEC", "1500000")


@pytest.mark.usefixtures("service")
def test_program_without_camera_keeps_the_watchdog(tmp_path: Path, systemd: Systemd) -> None:
    with (
        camera(draw_scene((60, 60, 120))) as server,
        running(tmp_path, "--source", server.url, *BY_HAAR) as program,
    ):
        systemd.wait_for("READY=1")
        eventually(lambda: program.out)
        systemd.wait_for("WATCHDOG=1")
        eventually(lambda: any("faces in sight: 1" in line for line in systemd.all_received()))
        server.gone.set()
        systemd.wait_for("STATUS=source lost")
        for _ in range(3):
            systemd.wait_for("WATCHDOG=1")
        code, _ = program.end(signal.SIGTERM)
        assert systemd.received()[-2:] == ["STOPPING=1", "STATUS=stopping"]
    assert code == 0


@pytest.mark.usefixtures("service")
def test_program_without_broker_keeps_the_watchdog(tmp_path: Path, systemd: Systemd) -> None:
    with (
        camera(draw_scene((60, 60, 120))) as server,
        running(tmp_path, "--source", server.url, "--detector", "haar", "--set", "mqtt.port=1"),
    ):
        systemd.wait_for("READY=1")
        eventually(lambda: any("broker disconnected" in line for line in systemd.all_received()))
        for _ in range(3):
            systemd.wait_for("WATCHDOG=1")


@pytest.mark.usefixtures("service")
def test_stopped_program_sends_no_watchdog_messages(tmp_path: Path, systemd: Systemd) -> None:
    with (
        camera(draw_scene((60, 60, 120))) as server,
        running(tmp_path, "--source", server.url, *BY_HAAR) as program,
    ):
        systemd.wait_for("WATCHDOG=1")
        program.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{program.process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        systemd.received()
        assert systemd.is_silent_for(1.5)


def test_missing_package_logs_one_warning(
    program: Program, tmp_path: Path, drawn_clip: Path
) -> None:
    (tmp_path / "systemd.py").write_text("raise ImportError('no systemd')")
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    done = program(
        "--source", drawn_clip, *BY_HAAR, PYTHONPATH=path, NOTIFY_SOCKET=str(tmp_path / "notify")
    )
    assert done.returncode == 0
    assert done.stdout
    (line,) = (line for line in done.stderr.splitlines() if "python3-systemd" in line)
    assert "WARNING" in line


@pytest.mark.slow
def test_package_is_imported_only_under_systemd() -> None:
    code = (
        "import os, sys; from edge_daemon.monitoring import systemd; "
        "systemd.journal_handler(); systemd.notifier_from(os.environ, None, str, None); "
        "print([name for name in sys.modules if name.split('.')[0] == 'systemd'])"
    )
    environment = {
        key: value
        for key, value in clean_environment(Path("/nonexistent")).items()
        if key not in {"NOTIFY_SOCKET", "JOURNAL_STREAM"}
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "[]\n"
