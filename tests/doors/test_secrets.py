"""Passwords stay where they were written: no line, message or file tells of one."""

import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import clean_environment
from doors.program import run
from drawing import draw_scene
from publishing.broker import Mosquitto, Subscriber
from running import RunningProgram, camera, eventually, free_port, running

USER, PASSWORD = "ann", "broker-s3cret"
WRONG = "wrong-s3cret"
OF_THE_CAMERA, OF_ITS_QUERY = "camera-s3cret", "query-s3cret"
MARK = "s3cret"
"""What all of them have in common."""

BY_HAAR = ("--detector", "haar")
LOUD = ("--debug", "--log-level", "debug")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """One that lets in who has the password, and lets guests listen."""
    rights = ("topic read #", f"user {USER}", "topic readwrite #")
    with Mosquitto(tmp_path, {USER: PASSWORD}, guests=True, rights=rights) as mosquitto:
        yield mosquitto


def secret_address(address: str) -> str:
    """A camera's, with a login and a password in its query."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{USER}:{OF_THE_CAMERA}@{rest}?key={OF_ITS_QUERY}"


def config(folder: Path, source: str, port: int, password: str = PASSWORD, more: str = "") -> Path:
    """A file of settings, apart from what the program keeps."""
    place = folder / "etc"
    place.mkdir(exist_ok=True)
    (place / "password").write_text(password)
    file = place / "config.toml"
    file.write_text(
        f'source = "{source}"\ndevice_id = "porch"\n{more}\n[mqtt]\nhost = "127.0.0.1"\n'
        f'port = {port}\nusername = "{USER}"\npassword_file = "{place / "password"}"\n'
        "[health]\ninterval = 1\n"
    )
    return file


def assert_untold(*texts: str) -> None:
    for text in texts:
        assert text
        assert MARK not in text


def kept(folder: Path) -> bytes:
    """All that the program has on the disk."""
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    assert files
    return b"".join(path.read_bytes() for path in files)


def said(program: RunningProgram) -> str:
    return "\n".join([*program.out, *program.err])


def test_run_that_works_tells_of_no_password(tmp_path: Path, broker: Mosquitto) -> None:
    preview, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    heard = Subscriber(broker.port, "#".removesuffix("#") + "edge-daemon")
    found = Subscriber(broker.port, "homeassistant")
    with camera(draw_scene((60, 60, 120))) as live:
        file = config(tmp_path, secret_address(live.url), broker.port)
        words = ("--config", file, *BY_HAAR, *LOUD, "--preview", preview, "--metrics", metrics)
        with running(tmp_path, *words) as program:
            program.wait_for(" event ")
            eventually(lambda: heard.on("porch/health") and heard.on("porch/event"))
            for path in (f"{preview}/session", f"{preview}/minute.json", f"{metrics}/metrics"):
                with urlopen(f"http://{path}") as answer:
                    assert_untold(answer.read().decode())
            program.process.send_signal(signal.SIGUSR1)
            program.wait_for("Current thread 0x")
            program.process.send_signal(signal.SIGHUP)
            program.end(signal.SIGTERM)
    messages = [*heard.messages, *found.messages]
    heard.close()
    found.close()
    assert_untold(said(program), *(f"{one.topic} {one.payload!r}" for one in messages))
    assert MARK.encode() not in kept(tmp_path)
    assert "http://***@127.0.0.1" in said(program)


def test_run_that_fails_tells_of_no_password(tmp_path: Path, broker: Mosquitto) -> None:
    source = secret_address("rtsp://127.0.0.1:9/stream")
    file = config(tmp_path, source, broker.port, password=WRONG)
    with running(tmp_path, "--config", file, *BY_HAAR, *LOUD) as program:
        program.wait_for("no connection to the broker")
        program.wait_for("source lost")
        program.end(signal.SIGTERM)
    assert_untold(said(program))
    assert "not authorised" in said(program).lower() or "Not authorized" in said(program)


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
@pytest.mark.parametrize(
    "words",
    [
        ["check"],
        ["check", "--json"],
        ["config"],
        ["models"],
        ["homeassistant", "remove"],
        ["bench", "--frames", "1"],
    ],
    ids=" ".join,
)
def test_command_tells_of_no_password(
    tmp_path: Path, broker: Mosquitto, words: list[str], password: str
) -> None:
    file = config(tmp_path, secret_address("rtmp://127.0.0.1:9/stream"), broker.port, password)
    done = run(*words, "--config", file, "--debug", state=tmp_path)
    assert_untold(done.out + done.err)


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
def test_watch_tells_of_no_password(tmp_path: Path, broker: Mosquitto, password: str) -> None:
    file = config(tmp_path, "clip.mp4", broker.port, password)
    with running(tmp_path, "watch", "--json", "--config", file, "--debug") as program:
        if password == PASSWORD:
            speaker = Subscriber(broker.port, "edge-daemon")
            eventually(lambda: _heard(program, speaker))
            speaker.close()
            program.end(signal.SIGTERM)
        else:
            program.wait_for("edge-daemon: broker")
    assert MARK not in said(program)


def _heard(program: RunningProgram, speaker: Subscriber) -> bool:
    return program.process.poll() is None and speaker.listening.is_set()


@pytest.mark.parametrize(
    "source", ["rtsp://ann:camera-s3cret@cam/1\\n", "rtsp://ann:camera-s3cret@cam/" + "x" * 5000]
)
@pytest.mark.parametrize("command", ["run", "check", "config"])
def test_address_that_is_refused_is_told_without_its_password(
    tmp_path: Path, source: str, command: str
) -> None:
    file = config(tmp_path, source, 1883)
    done = run(command, "--config", file, "--debug", state=tmp_path)
    assert done.code == (1 if command == "check" else 2)
    assert_untold(done.out + done.err)


@pytest.mark.parametrize(
    "words",
    [
        ["clip.mp4", secret_address("rtsp://cam/1")],
        ["--set", secret_address("rtsp://cam/1").replace("=", ":")],
        ["--set", f"mqtt.password={PASSWORD}"],
        ["--sink", secret_address("rtsp://cam/1")],
    ],
    ids=["a second source", "without a key", "no such setting", "of another setting"],
)
def test_words_that_are_refused_are_told_without_their_password(
    tmp_path: Path, words: list[str]
) -> None:
    done = run(*words, "--debug", state=tmp_path)
    assert done.code == 2
    assert_untold(done.err)


def test_password_is_in_no_list_of_processes(tmp_path: Path, broker: Mosquitto) -> None:
    with camera(draw_scene((60, 60, 120))) as live:
        file = config(tmp_path, secret_address(live.url), broker.port)
        with running(tmp_path, "--config", file, *BY_HAAR) as program:
            program.wait_for("connected to the broker")
            place = Path(f"/proc/{program.process.pid}")
            assert_untold((place / "cmdline").read_text(), (place / "comm").read_text())
    assert MARK not in str(clean_environment(tmp_path))
