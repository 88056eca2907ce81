import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
from conftest import Program, clean_environment
from drawing import draw_scene
from running import PATIENCE, STOP_LIMIT, Camera, camera, running

from edge_daemon import __version__, cli
from edge_daemon._lib.files import bundled_detector, bundled_models
from edge_daemon.detection.bundled import read_manifest
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.records import EMOTIONS
from edge_daemon.schema import FacesMessage

Refused = Callable[..., list[str]]

BY_HAAR = ("--sink", "jsonl", "--detector", "haar")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run the command line in this process; it must exit with 2 and print only errors."""
    for name in os.environ:
        if name.startswith("EDGE_DAEMON_"):
            monkeypatch.delenv(name)

    def run(*words: str, code: int = 2) -> list[str]:
        assert cli.main(words) == code
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert all(line.startswith("edge-daemon: ") for line in lines)
        return lines

    return run


def refusals(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The error lines of the program, one per problem, without a traceback."""
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("edge-daemon: ")]


def test_version_is_printed(program: Program) -> None:
    done = program("--version")
    assert (done.returncode, done.stdout) == (0, f"edge-daemon {__version__}\n")


@pytest.mark.parametrize("command", [[], ["run"]])
def test_help_lists_the_flags_and_exits_with_0(program: Program, command: list[str]) -> None:
    done = program(*command, "--help")
    assert done.returncode == 0
    assert ("--set KEY=VALUE" if command else "config") in done.stdout


@pytest.mark.parametrize("command", [[], ["run"], ["watch"], ["config"], ["models"]])
def test_unknown_flag_is_refused_by_name(refused: Refused, command: list[str]) -> None:
    (line,) = refused(*command, "--nonsense")
    assert "--nonsense" in line


def test_unknown_argument_is_refused_by_name(refused: Refused) -> None:
    (line,) = refused("dance")
    assert "dance" in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--source", ""], "source"),
        (["--threads", "many"], "inference.threads"),
        (["--detector", "eyes"], "detection.detector"),
        (["--set", "mqtt.prot=1"], "mqtt.port"),
        (["--set", "mqtt.port"], "--set mqtt.port"),
        (["--config", "absent.toml"], "absent.toml"),
        (["--log-level", "loud"], "log_level"),
    ],
)
def test_invalid_setting_prints_one_line_and_exits_with_2(
    refused: Refused, words: list[str], named: str
) -> None:
    (line,) = refused(*words)
    assert named in line


def test_all_invalid_settings_print_a_line_each(program: Program) -> None:
    done = program("--threads", "0", "--set", "mqtt.port=0", EDGE_DAEMON_SINK="paper")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == refusals(done)
    assert sorted(line.split(": ")[1] for line in refusals(done)) == [
        "inference.threads",
        "mqtt.port",
        "sink",
    ]


def test_traceback_is_printed_only_with_debug(program: Program) -> None:
    done = program("--source", "absent.mp4", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "Traceback" not in program("--source", "absent.mp4").stderr


def test_flags_override_the_environment_and_the_file(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('source = "1"\nsink = "jsonl"\nlog_level = "error"\n')
    layers = {"EDGE_DAEMON_CONFIG": str(file), "EDGE_DAEMON_LOG_LEVEL": "debug"}
    done = program("config", "--source", "3", EDGE_DAEMON_SOURCE="2", **layers)
    assert done.stdout.splitlines()[:2] == ['source = "3"', 'sink = "jsonl"']
    assert 'log_level = "debug"' in done.stdout


def test_config_prints_what_config_can_read(program: Program, tmp_path: Path) -> None:
    printed = program("config", "--set", "mqtt.rate=2.5", "--detector", "haar").stdout
    file = tmp_path / "config.toml"
    file.write_text(printed)
    assert program("config", "--config", file).stdout == printed
    assert "rate = 2.5" in printed


def test_config_masks_a_stream_password(program: Program) -> None:
    done = program("config", "--source", "rtsp://me:secret@camera/1")
    assert 'source = "rtsp://***@camera/1"' in done.stdout
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [["run"], ["run", "--debug"], ["check"]])
@pytest.mark.parametrize("source", ["me:secret@camera/1", "rtsp//me:secret@camera/1"])
def test_incomplete_address_is_refused_without_its_password(
    program: Program, command: list[str], source: str
) -> None:
    done = program(*command, "--source", source, "--sink", "none")
    assert done.returncode == 1
    assert "***@camera/1" in done.stdout + done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_config_example_is_accepted_unchanged(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(program("config", "--example").stdout)
    assert "[mqtt]" in file.read_text()
    assert program("config", "--config", file).stdout == program("config").stdout


def test_config_example_has_settings_of_the_command_line_only(program: Program) -> None:
    words = ("config", "--example", "--source", "0", "--set", "mqtt.port=1884")
    done = program(*words, EDGE_DAEMON_MQTT__HOST="elsewhere")
    assert '\nsource = "0"\n' in done.stdout
    assert "\nport = 1884\n" in done.stdout
    assert '\n#host = "localhost"\n' in done.stdout


@pytest.mark.parametrize(
    ("words", "listen"),
    [
        (["--metrics"], "127.0.0.1:9469"),
        (["--metrics", "--debug"], "127.0.0.1:9469"),
        (["--metrics", "0.0.0.0:80"], "0.0.0.0:80"),
    ],
)
def test_metrics_address_defaults_to_loopback(
    program: Program, words: list[str], listen: str
) -> None:
    assert f'listen = "{listen}"' in program("config", *words).stdout


@pytest.mark.parametrize(
    ("words", "listen", "sink"),
    [
        (["--preview"], "127.0.0.1:8469", "none"),
        (["--preview", "--sink", "jsonl"], "127.0.0.1:8469", "jsonl"),
        (["--preview", "0.0.0.0:80", "--set", "mqtt.host=broker"], "0.0.0.0:80", "mqtt"),
    ],
)
def test_preview_address_defaults_to_loopback_without_broker(
    program: Program, words: list[str], listen: str, sink: str
) -> None:
    printed = program("config", *words).stdout
    assert f'[preview]\nlisten = "{listen}"' in printed
    assert f'sink = "{sink}"' in printed


@pytest.mark.parametrize("words", [["models"], ["models", "list"]])
def test_models_lists_the_members_of_the_bundle(program: Program, words: list[str]) -> None:
    done = program(*words)
    assert done.returncode == 0
    bundle = read_bundle(bundled_models())
    assert bundle.bundle_id in done.stdout
    rows = [line for line in done.stdout.splitlines() if "MMAC" in line]
    for member, line in zip(bundle.members, rows, strict=True):
        assert member.file in line
        assert ("mirrored" in line) == member.mirrored
        assert member.sha256[:12] in line
        assert f"{100 * member.metrics.accuracy:.1f} %" in line
    detector = read_manifest(bundled_detector())
    for network in (detector.search, detector.verifier):
        assert network.sha256[:12] in done.stdout
    assert "detector yunet: not fetched" in done.stdout


def test_models_lists_a_fetched_detector_with_its_path(program: Program, tmp_path: Path) -> None:
    fetched = tmp_path / "kept" / "face_detection_yunet_2023mar.onnx"
    fetched.parent.mkdir()
    fetched.touch()
    assert str(fetched) in program("models", "--set", f"state_dir={fetched.parent}").stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["fetch"], "yunet"),
        (["fetch", "retina"], "retina"),
        (["burn"], "burn"),
    ],
)
def test_models_fetch_invalid_name_lists_the_choices(
    refused: Refused, words: list[str], named: str
) -> None:
    (line,) = refused("models", *words)
    assert named in line


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["models", "fetch", "foo"], "models fetch: unknown detector (got 'foo'); use yunet"),
        (["bench", "--frames", "x"], "--frames: must be a whole number (got 'x')"),
        (["bench", "--frames", "0"], "--frames: must be 1 or more (got 0)"),
        (["bench", "--warmup", "-1"], "--warmup: must be 0 or more (got -1)"),
        (["run", "--config"], "--config: expected one argument; see 'edge-daemon run --help'"),
        (
            ["run", "--preview", "/dev/video0"],
            "--preview: must be HOST:PORT (got /dev/video0); write SOURCE before --preview",
        ),
        (
            ["run", "--metrics", "picamera"],
            "--metrics: must be HOST:PORT (got picamera); write SOURCE before --metrics",
        ),
    ],
)
def test_invalid_argument_is_refused_with_the_fix(
    refused: Refused, words: list[str], problem: str
) -> None:
    assert refused(*words) == [f"edge-daemon: {problem}"]


@pytest.mark.parametrize("option", ["--sink", "--metrics", "--preview", "--threads"])
def test_models_has_no_options_of_a_run(program: Program, option: str) -> None:
    assert option not in program("models", "--help").stdout


@pytest.mark.parametrize("option", ["--sink", "--metrics", "--preview", "--log-level"])
def test_bench_has_no_options_without_effect(program: Program, option: str) -> None:
    assert option not in program("bench", "--help").stdout


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:9/yunet.onnx", "file:///absent"])
def test_models_fetch_failure_names_the_url(refused: Refused, tmp_path: Path, url: str) -> None:
    state = f"state_dir={tmp_path}"
    (line,) = refused("models", "fetch", "yunet", "--url", url, "--set", state, code=1)
    assert url in line


@pytest.mark.parametrize(("words", "named"), [([], "remove"), (["add"], "add")])
def test_homeassistant_invalid_action_is_refused_by_name(
    refused: Refused, words: list[str], named: str
) -> None:
    (line,) = refused("homeassistant", *words)
    assert named in line


def test_unexpected_exception_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_options: object) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr(cli, "_settings", fail)
    assert cli.main(["config"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError" in line
    assert "by accident" in line


SIGINT_AT_START = """
import os, signal, sys

def interrupt(event, arguments):
    if event == "import" and arguments[0] == "edge_daemon.cli":
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
from edge_daemon.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [("run", 0), ("watch", 0), ("check", 130), ("bench", 130), ("config", 130), ("models", 130)],
)
def test_interrupted_command_exits_with_130_unless_endless(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, code: int
) -> None:
    def interrupt(_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_settings", interrupt)
    # The level would stay for the tests after this one.
    monkeypatch.setattr("edge_daemon._lib.logging.configure_logging", lambda *_: None)
    assert cli.main([command]) == code
    words = [sys.executable, "-c", SIGINT_AT_START, command]
    done = subprocess.run(words, check=False, env=clean_environment(tmp_path), timeout=PATIENCE)
    assert done.returncode == code


def test_interrupted_fetch_exits_with_130(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = "http://{}:{}/model".format(*silent.getsockname())
        with running(tmp_path, "models", "fetch", "yunet", "--url", url) as program:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                code, _ = program.end(signal.SIGINT)
    assert (code, program.err) == (130, [])


@pytest.mark.parametrize("command", [["run"], []])
def test_clip_prints_a_message_per_frame_and_exits_with_0(
    program: Program, drawn_clip: Path, command: list[str]
) -> None:
    done = program(*command, "--source", drawn_clip, *BY_HAAR)
    assert done.returncode == 0
    assert refusals(done) == []
    messages = [FacesMessage.model_validate_json(line) for line in done.stdout.splitlines()]
    assert [message.frame for message in messages] == list(range(13))
    assert {(message.width, message.height) for message in messages} == {(320, 240)}
    faces = [face for message in messages for face in message.faces]
    assert len(faces) == 12
    assert len({face.track_id for face in faces}) == 1
    for face in faces:
        assert face.probabilities is not None
        assert tuple(face.probabilities) == EMOTIONS
        assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert face.confidence == max(face.probabilities.values())
    events = [event for message in messages for event in message.events]
    assert [event.kind for event in events] == ["appeared", "left"]
    assert messages[-1].faces == ()
    assert messages[-1].events == (events[-1],)


def test_boxes_are_in_pixels_of_the_frame(program: Program, drawn_clip: Path) -> None:
    done = program("--source", drawn_clip, *BY_HAAR, "--set", "detection.max_side=200")
    *lines, _ = done.stdout.splitlines()
    boxes = [json.loads(line)["faces"][0]["box"] for line in lines]
    for step, (x, y, width, height) in enumerate(boxes):
        assert x + width / 2 == pytest.approx(120 + 2 * step, abs=8)
        assert y + height / 2 == pytest.approx(120, abs=12)


def test_closed_stdout_stops_the_program_cleanly(tmp_path: Path) -> None:
    with (
        camera(draw_scene((60, 60, 120))) as live,
        subprocess.Popen(
            [sys.executable, "-m", "edge_daemon", "--source", live.url, *BY_HAAR],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(tmp_path),
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        log = process.stderr.read()
        assert process.wait(30) == 0
    assert "Traceback" not in log
    assert "Exception ignored" not in log
    assert "edge-daemon: " not in log


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_unwritable_output_prints_one_line_and_exits_with_1(
    tmp_path: Path, drawn_clip: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edge_daemon", "--source", drawn_clip, *BY_HAAR],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env=clean_environment(tmp_path),
        )
    assert done.returncode == 1
    (line,) = refusals(done)
    assert "No space left" in line
    assert "Exception ignored" not in done.stderr


@pytest.fixture(scope="module")
def live() -> Iterator[Camera]:
    with camera(draw_scene((60, 60, 120))) as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_a_live_run_soon_and_cleanly(
    tmp_path: Path, live: Camera, number: signal.Signals
) -> None:
    with running(tmp_path, "--source", live.url, *BY_HAAR) as program:
        program.wait_for('"track_id"', count=3)
        code, seconds = program.end(number)
    log = "\n".join(program.err)
    assert code == 0
    assert seconds < STOP_LIMIT
    assert "threads did not stop" not in log
    assert "Traceback" not in log
    assert "stopped" in program.err[-1]
    for line in program.out:
        FacesMessage.model_validate_json(line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_a_run_without_camera(tmp_path: Path, number: signal.Signals) -> None:
    address = "rtsp://me:secret@127.0.0.1:9/stream"
    with running(tmp_path, "--source", address, *BY_HAAR) as program:
        program.wait_for("source lost")
        code, seconds = program.end(number)
    log = "\n".join(program.err)
    assert code == 0
    assert seconds < STOP_LIMIT
    assert "threads did not stop" not in log
    assert "rtsp://***@127.0.0.1:9/stream" in log
    assert "secret" not in log


def test_camera_reconnected_continues_the_frame_numbers(tmp_path: Path) -> None:
    with (
        camera(draw_scene((60, 60, 120))) as server,
        running(tmp_path, "--source", server.url, *BY_HAAR) as program,
    ):
        program.wait_for('"frame"', count=2)
        server.gone.set()
        program.wait_for("source lost")
        before = len(program.out)
        server.gone.clear()
        program.wait_for("source is back")
        program.wait_for('"frame"', count=before + 2)
        program.end(signal.SIGTERM)
    frames = [json.loads(line)["frame"] for line in program.out]
    assert frames == sorted(set(frames))
    assert sum("source lost" in line for line in program.err) == 1


def test_sigusr1_prints_all_stacks_and_the_run_continues(tmp_path: Path, live: Camera) -> None:
    with running(tmp_path, "--source", live.url, *BY_HAAR) as program:
        program.wait_for('"frame"')
        program.process.send_signal(signal.SIGUSR1)
        # "Thread 0x…" or "Current thread 0x…"; a library's thread can receive the signal, which
        # Python does not list.
        program.wait_for("hread 0x", count=5)
        program.wait_for('"frame"', count=len(program.out) + 1)
        code, _ = program.end(signal.SIGTERM)
    assert code == 0


@pytest.mark.parametrize("words", [[""], ["run", ""], ["run", "--source", ""]])
def test_an_empty_source_is_refused(program: Program, words: list[str]) -> None:
    # An unset variable of a shell script must not start the camera.
    done = program(*words)
    assert done.returncode == 2
    assert error_of(done).startswith("source:")


def test_source_is_a_positional_argument(program: Program, drawn_clip: Path) -> None:
    options = ("--sink", "jsonl", "--detector", "haar")
    for words in (("run", drawn_clip), (drawn_clip,), ("run", "--source", drawn_clip)):
        done = program(*words, *options)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 13, words  # the last one has the `left` event


def test_second_source_is_refused(program: Program, drawn_clip: Path) -> None:
    done = program("run", drawn_clip, "--source", drawn_clip)
    assert (done.returncode, done.stdout) == (2, "")
    assert error_of(done).startswith("source: given twice")


def test_several_files_are_refused_by_name(refused: Refused, tmp_path: Path) -> None:
    """As `run photos/*.jpg` passes them."""
    photos = [tmp_path / f"{number}.jpg" for number in range(3)]
    for photo in photos:
        photo.touch()
    (line,) = refused("run", *map(str, photos))
    assert line.startswith("edge-daemon: SOURCE: ")
    assert str(photos[1]) in line


@pytest.mark.parametrize(("word", "meant"), [("rnu", "run"), ("chek", "check"), ("wach", "watch")])
def test_misspelt_command_is_refused_with_a_suggestion(
    program: Program, word: str, meant: str
) -> None:
    done = program(word)
    assert done.returncode == 2
    assert f"did you mean '{meant}'?" in error_of(done)


@pytest.mark.parametrize("words", [("--metrics", "check"), ("--log-level", "info", "watch")])
def test_command_after_an_option_is_refused(refused: Refused, words: tuple[str, ...]) -> None:
    (line,) = refused(*words)
    assert line.startswith(f"edge-daemon: {words[-1]}: must be the first word")


def test_option_can_have_the_name_of_a_command_as_its_value(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "a.png"), draw_scene((60, 60, 120)))
    done = program(photos, "--output", "check", "--detector", "haar")
    assert done.returncode == 0
    assert (tmp_path / "check" / "a.png").is_file()


def test_run_without_camera_prints_help_and_reason(program: Program) -> None:
    if any(Path("/dev").glob("video*")) or importlib.util.find_spec("picamera2"):
        pytest.skip("there is a camera")
    done = program()
    assert done.returncode == 2
    assert "usage: edge-daemon" in done.stderr
    assert error_of(done).startswith("source: no camera")


def test_file_without_configured_broker_is_refused(program: Program, drawn_clip: Path) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("localhost", 1883), 1):
        pytest.skip("there is a broker")
    done = program(drawn_clip)
    assert done.returncode == 1
    assert error_of(done).startswith("mqtt.host: no broker")
    assert "--sink jsonl" in error_of(done)


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_standard_streams_are_no_error(
    tmp_path: Path, drawn_clip: Path, closed: str
) -> None:
    words = f"-m edge_daemon {drawn_clip} --sink jsonl --detector haar {closed}"
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} {words}"],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(tmp_path),
        check=False,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """The message of the one error line."""
    (line,) = (it for it in done.stderr.splitlines() if it.startswith("edge-daemon: "))
    return line.removeprefix("edge-daemon: ")
