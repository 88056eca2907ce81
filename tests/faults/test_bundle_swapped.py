"""Model files change while the program runs: it continues with the loaded models."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Program
from drawing import draw_scene
from running import Camera, camera, eventually, running

from edge_daemon._lib.files import bundled_models
from edge_daemon.schema import FaceMessage, FacesMessage

ONE_FACE = draw_scene((100, 60, 120))
TWO_FACES = draw_scene((20, 60, 110), (180, 60, 110))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the bundled models, including the face detector."""
    return Path(shutil.copytree(bundled_models(), tmp_path / "bundle"))


@pytest.fixture
def live() -> Iterator[Camera]:
    with camera(ONE_FACE) as server:
        yield server


def words(live: Camera, bundle: Path) -> tuple[object, ...]:
    detector = ("--detector-model", bundle / "detector.json")
    at_once = ("--set", "events.appear_after=0")
    return ("--source", live.url, "--sink", "jsonl", "--bundle", bundle, *detector, *at_once)


def cut_short(bundle: Path) -> None:
    """Truncate the files in place, as a full disk or a failed copy does."""
    for file in bundle.iterdir():
        with file.open("r+b") as written:
            written.truncate(file.stat().st_size // 2)


def overwrite(bundle: Path) -> None:
    """Overwrite the files in place with other bytes."""
    for file in bundle.iterdir():
        file.write_bytes(b"\xff" * file.stat().st_size)


def delete(bundle: Path) -> None:
    shutil.rmtree(bundle)


def faces_of_both(lines: list[str]) -> list[FaceMessage]:
    """The faces of the frames with two of them."""
    messages = [FacesMessage.model_validate_json(line) for line in list(lines)]
    return [face for message in messages if len(message.faces) == 2 for face in message.faces]


@pytest.mark.parametrize("change", [cut_short, overwrite, delete])
def test_bundle_changed_while_running_keeps_loaded_models(
    tmp_path: Path,
    program: Program,
    bundle: Path,
    live: Camera,
    change: Callable[[Path], None],
) -> None:
    member_count = len(json.loads((bundle / "bundle.json").read_text())["members"])
    with running(tmp_path, *words(live, bundle)) as device:
        device.wait_for('"kind":"appeared"')
        change(bundle)
        live.show(TWO_FACES)  # now an interpreter for two faces is built
        device.wait_for('"kind":"appeared"', count=2)
        eventually(lambda: faces_of_both(device.out))
        device.process.send_signal(signal.SIGHUP)
        device.wait_for("settings reloaded applied=nothing need_restart=nothing")
        code, _ = device.end(signal.SIGTERM)
    # A slow frame has fewer, by the time budget.
    assert max(face.members for face in faces_of_both(device.out)) == member_count
    assert (code, [line for line in device.err if "ERROR" in line]) == (0, [])
    assert_is_refused(program, live, bundle)


def assert_is_refused(program: Program, live: Camera, bundle: Path) -> None:
    """The next start reports the damaged bundle in one line."""
    done = program(*words(live, bundle))
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("edge-daemon: "))
    assert str(bundle) in line
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (1, "")


def test_bundle_setting_changed_needs_a_restart(tmp_path: Path, bundle: Path, live: Camera) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[inference]\nbundle = "{bundle}"\n')
    with running(
        tmp_path, "--source", live.url, "--sink", "jsonl", "--detector", "haar", "--config", file
    ) as device:
        device.wait_for('"track_id"')
        file.write_text(f'[inference]\nbundle = "{tmp_path / "absent"}"\n')
        device.process.send_signal(signal.SIGHUP)
        device.wait_for("need_restart=inference.bundle")
        device.wait_for('"track_id"', count=len(device.out) + 3)
        code, _ = device.end(signal.SIGTERM)
    assert code == 0
