import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import cv2
import pytest
from commands.check.test_holders import holding
from drawing import draw_scene
from running import camera

from edge_daemon.commands import check
from edge_daemon.commands.check import Finding, Level, Process, ProcessTable, check_source
from edge_daemon.config.settings import Settings
from edge_daemon.errors import SourceError

MEMORY = Path("/dev/shm")  # files here have a path like a device's


def found(source: object, state: Path) -> Finding:
    return check_source(Settings(source=str(source), state_dir=state))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A regular file that counts as a camera device."""
    if not MEMORY.is_dir():
        pytest.skip(f"needs {MEMORY}")
    file = MEMORY / f"video-{uuid4()}"
    file.touch()
    is_char_device = Path.is_char_device
    monkeypatch.setattr(Path, "is_char_device", lambda path: path == file or is_char_device(path))
    yield file
    file.unlink()


def test_source_file_is_opened_and_read(tmp_path: Path, drawn_clip: Path) -> None:
    message = f"{drawn_clip}: gives frames of 320x240"
    assert found(drawn_clip, tmp_path) == Finding.ok(message)


def test_source_damaged_file_fails(tmp_path: Path) -> None:
    damaged = tmp_path / "clip.mp4"
    damaged.write_bytes(b"no video")
    with pytest.raises(SourceError, match="no such file"):
        found(tmp_path / "absent.mp4", tmp_path)
    assert found(damaged, tmp_path).level is Level.FAIL


def test_source_stream_is_opened_and_read(tmp_path: Path) -> None:
    with camera(draw_scene((60, 60, 120))) as live:
        assert found(live.url, tmp_path).level is Level.OK


def test_source_paused_camera_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"paused-{Settings().device_id}").touch()
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: pytest.fail("opened"))
    result = found("http://127.0.0.1:9/", tmp_path)
    assert result == Finding.ok("http://127.0.0.1:9/: paused, so the camera stays closed")


def test_source_absent_camera_fails_with_hint(tmp_path: Path) -> None:
    assert found("/dev/video99", tmp_path).message.endswith("check that it is plugged in")


def test_source_camera_in_use_by_another_program_fails(tmp_path: Path, device: Path) -> None:
    with holding(device) as pid:
        result = found(device, tmp_path)
    assert result.level is Level.FAIL
    assert result.message.endswith(f"it is used by {Path(sys.executable).name} (process {pid})")


def test_source_camera_in_use_by_the_daemon_passes(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "edge-daemon"
    script.write_text("import sys; held = open(sys.argv[1]); print(flush=True); sys.stdin.read()")
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: pytest.fail("opened"))
    with holding(device, sys.executable, str(script)) as pid:
        result = found(device, tmp_path)
    assert result == Finding.ok(f"{device}: used by the running edge-daemon (process {pid})")


def test_source_open_files_of_other_users_give_a_warning(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemons = [Process(812, ("edge-daemon", "run"))]
    monkeypatch.setattr(ProcessTable, "daemons", lambda _: daemons)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = found(device, tmp_path)
    assert result.level is Level.WARN
    assert "maybe used by the running edge-daemon (process 812)" in result.message
    assert found("/dev/video99", tmp_path).level is Level.FAIL
    daemons.clear()
    assert found(device, tmp_path).level is Level.FAIL


@pytest.mark.parametrize(
    ("installed", "hint"),
    [(False, "apt install python3-picamera2"), (True, "--system-site-packages")],
)
def test_source_picamera2_missing_fails_with_hint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: bool,  # noqa: FBT001
    hint: str,
) -> None:
    if installed:
        (tmp_path / "picamera2").mkdir()
    monkeypatch.setattr(check, "SYSTEM_PACKAGES", tmp_path)
    result = found("picamera", tmp_path)
    assert result.level is Level.FAIL
    assert hint in result.message


def test_source_pi_camera_locked_by_the_daemon_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Process(812, ("edge-daemon", "run"))
    monkeypatch.setattr(ProcessTable, "lockers", lambda *_: [daemon])
    result = found("picamera", tmp_path)
    assert result == Finding.ok("picamera: used by the running edge-daemon (process 812)")
