"""The progress of commands, on a real terminal and where there is none."""

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import cv2
import pytest
from conftest import Program, clean_environment
from drawing import draw_scene
from output.media import FACE, make_video

from edge_daemon._lib.terminal import ERASE

HAAR = ("--detector", "haar")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "face.mp4", frames=20)


def shown_on_terminal(
    state: Path, words: Sequence[object], *, has_stdout: bool = False, **environment: str
) -> tuple[int, str]:
    """Run the program with a terminal as standard error; the exit code, and what it shows."""
    terminal, child = pty.openpty()
    termios.tcsetwinsize(child, (24, 100))
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_daemon", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=child if has_stdout else subprocess.DEVNULL,
        stderr=child,
        env=clean_environment(state) | {"TERM": "xterm"} | environment,
    )
    os.close(child)
    output = b""
    try:
        while chunk := os.read(terminal, 65536):
            output += chunk
    except OSError:  # all ends are closed
        pass
    finally:
        os.close(terminal)
    return process.wait(60), output.decode()


@pytest.mark.parametrize("command", [("run", "--sink", "none"), ("bench", "--warmup", "0")])
def test_progress_of_a_video_is_shown_and_removed(
    tmp_path: Path, video: Path, command: tuple[str, ...]
) -> None:
    code, screen = shown_on_terminal(tmp_path, (*command, "--source", video, *HAAR))
    lines = [part for part in screen.split(ERASE) if " % [" in part]
    assert code == 0
    assert lines
    assert all("ETA " in part and "\n" not in part for part in lines)
    assert not screen.rstrip().endswith(lines[-1].rstrip())


def test_progress_of_a_folder_counts_images(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "ab":
        assert cv2.imwrite(str(folder / f"{name}.png"), draw_scene(FACE))
    code, screen = shown_on_terminal(tmp_path, ("run", folder, *HAAR, "--sink", "none"))
    assert code == 0
    assert " 50 % [" in screen


def test_progress_on_the_terminal_of_the_results_is_not_shown(tmp_path: Path, video: Path) -> None:
    words = ("run", video, *HAAR, "--sink", "jsonl")
    code, screen = shown_on_terminal(tmp_path, words, has_stdout=True)
    assert (code, "ETA" in screen, '"track_id"' in screen) == (0, False, True)


def test_progress_on_a_dumb_terminal_is_not_shown(tmp_path: Path, video: Path) -> None:
    words = ("run", video, *HAAR, "--sink", "none")
    assert "ETA" not in shown_on_terminal(tmp_path, words, TERM="dumb")[1]


def test_progress_in_a_pipe_is_not_shown(program: Program, video: Path) -> None:
    done = program("run", video, *HAAR, "--sink", "none")
    assert (done.returncode, "ETA" in done.stderr, "\x1b" in done.stderr) == (0, False, False)
