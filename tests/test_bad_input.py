"""Invalid input of the whole program: one error line, and the exit code."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Program
from drawing import draw_scene, write_clip
from running import PATIENCE, STOP_LIMIT, broker_at, camera, free_port, running

from edge_daemon._lib.files import bundled_models
from edge_daemon.schema import FacesMessage

FRAMES = 60
SCENE = draw_scene((60, 60, 120))


def run(program: Program, source: Path, *words: object) -> subprocess.CompletedProcess[str]:
    done = program("--source", source, "--sink", "jsonl", "--detector", "haar", *words)
    assert "Traceback" not in done.stderr
    return done


def refusal(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one error line of the program."""
    assert done.returncode == code
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("edge-daemon: "))
    return line


def faces_by_frame(done: subprocess.CompletedProcess[str]) -> list[int]:
    messages = [FacesMessage.model_validate_json(line) for line in done.stdout.splitlines()]
    assert [message.frame for message in messages] == list(range(len(messages)))
    if messages and {event.kind for event in messages[-1].events} == {"left"}:
        messages.pop()
    return [len(message.faces) for message in messages]


def picture(path: Path, image: np.ndarray = SCENE) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    """Truncate the file to its first part."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def test_missing_file_is_refused(program: Program, tmp_path: Path) -> None:
    absent = tmp_path / "absent.mp4"
    done = run(program, absent)
    assert str(absent) in refusal(done)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [("words.mp4", b"just some words\n"), ("empty.mp4", b""), ("words.jpg", b"just some words\n")],
)
def test_file_with_invalid_content_is_refused(
    program: Program, tmp_path: Path, name: str, content: bytes
) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    done = run(program, source)
    assert str(source) in refusal(done)
    assert done.stdout == ""


def cut_avi(folder: Path) -> Path:
    path = folder / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for step in range(FRAMES):
        writer.write(draw_scene((40 + step, 60, 120)))
    writer.release()
    return cut(path)


def cut_mp4(folder: Path) -> Path:
    """A truncated MP4 file with its index at the start."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg, to put an MP4's index in front")
    whole = write_clip(
        folder / "whole.mp4", [draw_scene((40 + step, 60, 120)) for step in range(FRAMES)]
    )
    path = folder / "clip.mp4"
    options = ["-v", "error", "-i", whole, "-c", "copy", "-movflags", "+faststart"]
    subprocess.run(["ffmpeg", *options, path], check=True, timeout=60)
    return cut(path, 0.7)


@pytest.mark.parametrize("make", [cut_avi, cut_mp4])
def test_truncated_video_is_read_then_reported(
    program: Program, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    source = make(tmp_path)
    done = run(program, source)
    frames = len(faces_by_frame(done))
    assert 5 < frames < FRAMES - 5
    line = refusal(done)
    assert str(source) in line
    assert f"after {frames} frames" in line


def test_mp4_without_index_is_refused(program: Program, tmp_path: Path, drawn_clip: Path) -> None:
    source = tmp_path / "clip.mp4"
    shutil.copy(drawn_clip, source)
    assert str(source) in refusal(run(program, cut(source, 0.6)))


def test_folder_without_images_is_refused(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "notes.txt").write_text("no picture")
    done = run(program, folder)
    assert str(folder) in refusal(done)


def test_damaged_image_in_a_folder_is_skipped_and_reported(
    program: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "c.png", "d.jpg"):
        picture(folder / name)
    cut(folder / "b.jpg")
    done = run(program, folder)
    assert done.returncode == 0
    assert faces_by_frame(done) == [1, 1, 1]
    (named,) = (line for line in done.stderr.splitlines() if str(folder / "b.jpg") in line)
    assert "WARNING" in named
    (counted,) = (line for line in done.stderr.splitlines() if "skipped=1 of=4" in line)
    assert "WARNING" in counted


def test_truncated_jpeg_is_refused(program: Program, tmp_path: Path) -> None:
    source = cut(picture(tmp_path / "face.jpg"), 0.8)
    done = run(program, source)
    assert str(source) in refusal(done)
    assert done.stdout == ""


def test_images_of_any_depth_and_channels_give_their_face(program: Program, tmp_path: Path) -> None:
    deep, grey = SCENE.astype(np.uint16) * 257, cv2.cvtColor(SCENE, cv2.COLOR_BGR2GRAY)
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(folder / "deep.png", deep)
    picture(folder / "deep.tiff", deep)
    picture(folder / "deep_grey.png", grey.astype(np.uint16) * 257)
    picture(folder / "grey.jpg", grey)
    picture(folder / "grey.png", grey)
    picture(folder / "rgba.png", cv2.cvtColor(SCENE, cv2.COLOR_BGR2BGRA))
    done = run(program, folder)
    assert done.returncode == 0
    assert faces_by_frame(done) == [1] * 6


def altered_bundle(folder: Path, **changes: object) -> Path:
    """A copy of the bundled models with a changed manifest."""
    copy = folder / "bundle"
    shutil.copytree(bundled_models(), copy)
    manifest = copy / "bundle.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    return copy


def first_member(bundle: Path) -> Path:
    return bundle / json.loads((bundle / "bundle.json").read_text())["members"][0]["file"]


def with_a_flipped_byte(folder: Path) -> tuple[Path, str]:
    bundle = altered_bundle(folder)
    member = first_member(bundle)
    content = bytearray(member.read_bytes())
    content[len(content) // 2] ^= 1
    member.write_bytes(content)
    return bundle, member.name


def without_a_member(folder: Path) -> tuple[Path, str]:
    bundle = altered_bundle(folder)
    member = first_member(bundle)
    member.unlink()
    return bundle, member.name


def with_other_labels(folder: Path) -> tuple[Path, str]:
    labels = json.loads((bundled_models() / "bundle.json").read_text())["labels"]
    return altered_bundle(folder, labels=labels[::-1]), "labels"


def of_another_schema(folder: Path) -> tuple[Path, str]:
    return altered_bundle(folder, schema_version=2), "schema_version"


def without_json(folder: Path) -> tuple[Path, str]:
    bundle = altered_bundle(folder)
    (bundle / "bundle.json").write_text("no JSON")
    return bundle, "bundle.json"


def without_a_manifest(folder: Path) -> tuple[Path, str]:
    return folder, "bundle.json"


@pytest.mark.parametrize(
    "make",
    [
        with_a_flipped_byte,
        without_a_member,
        with_other_labels,
        of_another_schema,
        without_json,
        without_a_manifest,
    ],
)
def test_invalid_bundle_is_refused(
    program: Program,
    tmp_path: Path,
    drawn_clip: Path,
    make: Callable[[Path], tuple[Path, str]],
) -> None:
    bundle, culprit = make(tmp_path)
    done = run(program, drawn_clip, "--bundle", bundle)
    line = refusal(done)
    assert str(bundle) in line
    assert culprit in line
    assert done.stdout == ""


def test_invalid_bundle_is_not_listed(program: Program, tmp_path: Path) -> None:
    bundle, culprit = with_a_flipped_byte(tmp_path)
    assert culprit in refusal(program("models", "--bundle", bundle))


@pytest.mark.parametrize(
    ("detector", "content"), [("yunet", b"no network" * 100), ("yunet", None), ("haar", None)]
)
def test_invalid_detector_file_is_refused(
    program: Program, tmp_path: Path, drawn_clip: Path, detector: str, content: bytes | None
) -> None:
    model = tmp_path / "detector.model"
    if content is not None:
        model.write_bytes(content)
    done = run(program, drawn_clip, "--detector", detector, "--detector-model", model)
    assert str(model) in refusal(done)
    assert "[ERROR" not in done.stderr


def wait_for_attempts(port: int, count: int) -> None:
    """Accept and close connections until so many have come."""
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(PATIENCE)
        for _ in range(count):
            server.accept()[0].close()


def test_unreachable_broker_is_logged_once_and_retried(tmp_path: Path) -> None:
    port = free_port()
    with (
        camera(SCENE) as live,
        running(
            tmp_path,
            *("--source", live.url, "--detector", "haar"),
            *broker_at(port),
        ) as program,
    ):
        program.wait_for("no connection to the broker")
        wait_for_attempts(port, 2)
        assert program.process.poll() is None
        code, seconds = program.end(signal.SIGTERM)
    assert code == 0
    assert seconds < STOP_LIMIT
    (line,) = (line for line in program.err if "to the broker" in line)
    assert f"127.0.0.1:{port}" in line
    assert not any("threads did not stop" in line for line in program.err)


def test_file_with_unreachable_broker_waits_until_stopped(tmp_path: Path, drawn_clip: Path) -> None:
    port = free_port()
    with running(
        tmp_path,
        *("--source", drawn_clip, "--detector", "haar"),
        *broker_at(port),
    ) as program:
        program.wait_for("no connection to the broker")
        wait_for_attempts(port, 2)
        assert program.process.poll() is None
        code, seconds = program.end(signal.SIGTERM)
    assert code == 0
    assert seconds < STOP_LIMIT
    assert not any("threads did not stop" in line for line in program.err)


def test_unreadable_password_file_is_refused(program: Program, tmp_path: Path) -> None:
    absent = tmp_path / "password"
    done = program(
        *("--source", picture(tmp_path / "face.png"), "--detector", "haar"),
        *("--set", f"mqtt.password_file={absent}"),
    )
    assert str(absent) in refusal(done, code=2)
