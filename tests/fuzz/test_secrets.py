"""No log line, message or file of the program contains a password."""

import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import clean_environment
from drawing import draw_scene
from fuzz.program import run
from publishing.broker import Mosquitto, Subscriber
from running import RunningProgram, camera, eventually, free_port, running

USER, PASSWORD = "ann", "broker-s3cret"
WRONG = "wrong-s3cret"
OF_THE_CAMERA, OF_ITS_QUERY = "camera-s3cret", "query-s3cret"
MARK = "s3cret"
"""A part of every password."""

BY_HAAR = ("--detector", "haar")
LOUD = ("--debug", "--log-level", "debug")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with one user with a password, and guests who may subscribe."""
    rights = ("topic read #", f"user {USER}", "topic readwrite #")
    with Mosquitto(tmp_path, {USER: PASSWORD}, guests=True, rights=rights) as mosquitto:
        yield mosquitto


def secret_address(address: str) -> str:
    """A camera's URL, with a login and a password in its query."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{USER}:{OF_THE_CAMERA}@{rest}?key={OF_ITS_QUERY}"


def config(folder: Path, source: str, port: int, password: str = PASSWORD, more: str = "") -> Path:
    """A settings file outside the state folder."""
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


def assert_without_password(*texts: str) -> None:
    for text in texts:
        assert text
        assert MARK not in text


def kept(folder: Path) -> bytes:
    """The contents of all files in the state folder."""
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    assert files
    return b"".join(path.read_bytes() for path in files)


def output_of(program: RunningProgram) -> str:
    return "\n".join([*program.out, *program.err])


def test_run_working_reveals_no_password(tmp_path: Path, broker: Mosquitto) -> None:
    preview, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    subscriber = Subscriber(broker.port, "#".removesuffix("#") + "edge-daemon")
    found = Subscriber(broker.port, "homeassistant")
    with camera(draw_scene((60, 60, 120))) as live:
        file = config(tmp_path, secret_address(live.url), broker.port)
        words = ("--config", file, *BY_HAAR, *LOUD, "--preview", preview, "--metrics", metrics)
        with running(tmp_path, *words) as program:
            program.wait_for(" event ")
            eventually(lambda: subscriber.on("porch/health") and subscriber.on("porch/event"))
            for path in (f"{preview}/session", f"{preview}/minute.json", f"{metrics}/metrics"):
                with urlopen(f"http://{path}") as answer:
                    assert_without_password(answer.read().decode())
            program.process.send_signal(signal.SIGUSR1)
            program.wait_for("Current thread 0x")
            program.process.send_signal(signal.SIGHUP)
            program.end(signal.SIGTERM)
    messages = [*subscriber.messages, *found.messages]
    subscriber.close()
    found.close()
    assert_without_password(
        output_of(program), *(f"{one.topic} {one.payload!r}" for one in messages)
    )
    assert MARK.encode() not in kept(tmp_path)
    assert "http://***@127.0.0.1" in output_of(program)


def test_run_failing_reveals_no_password(tmp_path: Path, broker: Mosquitto) -> None:
    source = secret_address("rtsp://127.0.0.1:9/stream")
    file = config(tmp_path, source, broker.port, password=WRONG)
    with running(tmp_path, "--config", file, *BY_HAAR, *LOUD) as program:
        program.wait_for("no connection to the broker")
        program.wait_for("source lost")
        program.end(signal.SIGTERM)
    assert_without_password(output_of(program))
    assert "not authorised" in output_of(program).lower() or "Not authorized" in output_of(program)


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
def test_command_reveals_no_password(
    tmp_path: Path, broker: Mosquitto, words: list[str], password: str
) -> None:
    file = config(tmp_path, secret_address("rtmp://127.0.0.1:9/stream"), broker.port, password)
    done = run(*words, "--config", file, "--debug", state=tmp_path)
    assert_without_password(done.out + done.err)


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
def test_watch_reveals_no_password(tmp_path: Path, broker: Mosquitto, password: str) -> None:
    file = config(tmp_path, "clip.mp4", broker.port, password)
    with running(tmp_path, "watch", "--json", "--config", file, "--debug") as program:
        if password == PASSWORD:
            speaker = Subscriber(broker.port, "edge-daemon")
            eventually(lambda: _is_subscribed(program, speaker))
            speaker.close()
            program.end(signal.SIGTERM)
        else:
            program.wait_for("edge-daemon: broker")
    assert MARK not in output_of(program)


def _is_subscribed(program: RunningProgram, speaker: Subscriber) -> bool:
    return program.process.poll() is None and speaker.listening.is_set()


@pytest.mark.parametrize(
    "source", ["rtsp://ann:camera-s3cret@cam/1\\n", "rtsp://ann:camera-s3cret@cam/" + "x" * 5000]
)
@pytest.mark.parametrize("command", ["run", "check", "config"])
def test_refused_url_is_reported_without_its_password(
    tmp_path: Path, source: str, command: str
) -> None:
    file = config(tmp_path, source, 1883)
    done = run(command, "--config", file, "--debug", state=tmp_path)
    assert done.code == (1 if command == "check" else 2)
    assert_without_password(done.out + done.err)


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
def test_refused_arguments_are_reported_without_password(tmp_path: Path, words: list[str]) -> None:
    done = run(*words, "--debug", state=tmp_path)
    assert done.code == 2
    assert_without_password(done.err)


def test_process_list_contains_no_password(tmp_path: Path, broker: Mosquitto) -> None:
    with camera(draw_scene((60, 60, 120))) as live:
        file = config(tmp_path, secret_address(live.url), broker.port)
        with running(tmp_path, "--config", file, *BY_HAAR) as program:
            program.wait_for("connected to the broker")
            place = Path(f"/proc/{program.process.pid}")
            assert_without_password((place / "cmdline").read_text(), (place / "comm").read_text())
    assert MARK not in str(clean_environment(tmp_path))
