import os
import string
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_daemon.config.loading import LiveSettings, load_settings
from edge_daemon.config.settings import (
    Section,
    Settings,
    default_device_id,
    default_state_dir,
    leaves,
    subsections,
)
from edge_daemon.errors import SettingsError

EVERY_PATH = [
    *((key,) for key in Settings.model_fields),
    *(
        (section, key)
        for section, model in subsections(Settings).items()
        for key in model.model_fields
    ),
]


def written(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def problems(
    file: Path | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[tuple[str, ...], object] | None = None,
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refusal:
        load_settings(file, environment, flags)
    assert refusal.value.exit_code == 2
    assert all("\n" not in line for line in refusal.value.problems)
    return refusal.value.problems


def test_settings_without_layers_are_the_defaults() -> None:
    assert load_settings() == Settings()


@pytest.fixture
def inaccessible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's settings file, in a folder that this process may not enter."""
    folder = tmp_path / "etc"
    folder.mkdir()
    file = written(folder, "")
    monkeypatch.setattr("edge_daemon.config.loading.SYSTEM_CONFIG", file)
    folder.chmod(0)
    before = os.geteuid()
    if before == 0:  # root may enter any folder
        os.seteuid(65534)
    yield file
    os.seteuid(before)
    folder.chmod(0o700)


def test_inaccessible_system_file_is_refused_with_a_fix(inaccessible: Path) -> None:
    (problem,) = problems()
    assert problem.startswith(f"{inaccessible}: cannot be read: Permission denied; ")


def test_reload_with_inaccessible_system_file_changes_nothing(
    inaccessible: Path, caplog: pytest.LogCaptureFixture
) -> None:
    current = LiveSettings(Settings())
    current.reload(load_settings)
    assert current.current == Settings()
    (record,) = caplog.records
    assert str(inaccessible) in vars(record)["error"]


@pytest.mark.parametrize("path", ["missing/config.toml", "file/config.toml", "folder"])
def test_missing_system_file_means_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("edge_daemon.config.loading.SYSTEM_CONFIG", tmp_path / path)
    assert load_settings() == Settings()


def test_environment_overrides_file_and_flags_override_both(tmp_path: Path) -> None:
    file = written(tmp_path, '[mqtt]\nhost = "file"\nport = 1\nkeepalive = 11')
    environment = {"EDGE_DAEMON_MQTT__HOST": "environment", "EDGE_DAEMON_MQTT__PORT": "2"}
    settings = load_settings(file, environment, {("mqtt", "host"): "flag"})
    assert (settings.mqtt.host, settings.mqtt.port, settings.mqtt.keepalive) == ("flag", 2, 11)


def test_environment_sets_top_level_and_nested_settings_only() -> None:
    settings = load_settings(
        environment={
            "EDGE_DAEMON_LOG_LEVEL": "debug",
            "EDGE_DAEMON_CAPTURE__READ_TIMEOUT": "2.5",
            "EDGE_DAEMON_DETECTION__MODEL": "/x.onnx",
            "OTHER_MQTT__HOST": "ignored",
            "MQTT__HOST": "ignored",
        }
    )
    assert settings.log_level == "debug"
    assert settings.capture.read_timeout == 2.5
    assert settings.detection.model == Path("/x.onnx")
    assert settings.mqtt == Settings().mqtt


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().mqtt.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("mqtt_host", "mqtt.host"),
        ("mqtt.prot", "mqtt.port"),
        ("capture.read_timout", "capture.read_timeout"),
        ("sorce", "source"),
        ("mqt.host", "mqtt"),
        ("host", "mqtt.host"),
        ("capture.rate", "mqtt.rate"),
        ("mqtt.fps", "capture.fps"),
    ],
)
def test_unknown_key_is_refused_with_a_suggestion(key: str, suggestion: str) -> None:
    (problem,) = problems(flags={tuple(key.split(".")): "1"})
    name = key if suggestion != "mqtt" else "mqt"
    assert problem == f"{name}: unknown setting (set by command line); did you mean {suggestion}?"


def test_unknown_variable_is_refused_with_a_variable() -> None:
    (problem,) = problems(environment={"EDGE_DAEMON_MQTT_HOST": "broker"})
    assert problem.endswith("; did you mean EDGE_DAEMON_MQTT__HOST?")


@pytest.mark.parametrize("key", ["zzz", "detection.qqq"])
def test_unknown_key_unlike_any_other_names_the_list(key: str) -> None:
    (problem,) = problems(flags={tuple(key.split(".")): "1"})
    assert problem.startswith(f"{key}: unknown setting (set by command line); see ")


def test_unknown_section_with_many_keys_is_reported_once(tmp_path: Path) -> None:
    file = written(tmp_path, "[capturing]\nwidth = 1\nheight = 2")
    (problem,) = problems(file)
    assert problem == f"capturing: unknown setting (set by {file}); did you mean capture?"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mqtt.port", "many"),
        ("mqtt.port", "70000"),
        ("mqtt.host", ""),
        ("mqtt.host", " "),
        ("mqtt.host", "[]"),
        ("mqtt.base_topic", "a/#"),
        ("capture.fps", "0"),
        ("capture.fps", "nan"),
        ("capture.read_timeout", "-1"),
        ("capture.read_timeout", "inf"),
        ("tracking.max_age", "inf"),
        ("detection.min_score", "1.1"),
        ("detection.detector", "eyes"),
        ("sink", "paper"),
        ("device_id", "a b"),
        ("log_level", "loud"),
        ("inference.threads", "0"),
        ("inference.prior", "happy=1"),
        ("inference.prior", "angry=0,disgust=1,fear=1,happy=1,sad=1,surprise=1,neutral=1"),
        ("inference.prior", "camera"),
        ("mqtt", "localhost"),
    ],
)
def test_invalid_value_is_reported_with_key_and_value(key: str, value: str) -> None:
    (problem,) = problems(flags={tuple(key.split(".")): value})
    assert problem.startswith(f"{key}: must ")
    assert problem.endswith(f"(got {value!r}, set by command line)")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("mqtt.port", "x", "must be a whole number"),
        ("capture.fps", "x", "must be a number"),
        ("mqtt.tls", "maybe", "must be true or false"),
        ("device_id", "a b", "must have only letters, digits, _ and -"),
        ("mqtt.base_topic", "a/#", "must not contain + or #, nor end with /"),
        ("homeassistant.prefix", "+", "must not contain + or #, nor end with /"),
        ("homeassistant.prefix", "homeassistant/", "must not contain + or #, nor end with /"),
        ("zones.ignore", "5", "must be a list of regions, such as [[0, 0, 0.3, 1]]"),
    ],
)
def test_invalid_value_reason_names_no_python_type(key: str, value: str, reason: str) -> None:
    (problem,) = problems(flags={tuple(key.split(".")): value})
    assert problem == f"{key}: {reason} (got {value!r}, set by command line)"


@pytest.mark.parametrize(
    ("region", "path"),
    [
        ("[0,0,2,1]", "0"),
        ("[[0,0],[2,0],[1,1]]", "0.1.0"),
        ("[[0,0],[1,1]]", "0"),
        (f"[{','.join(['[0,0]'] * 101)}]", "0"),
    ],
)
def test_invalid_region_is_reported_once(region: str, path: str) -> None:
    (problem,) = problems(flags={("zones", "ignore"): f"[{region}]"})
    assert problem.startswith(f"zones.ignore.{path}: must ")


@pytest.mark.parametrize(
    ("host", "fix"),
    [
        ("user@broker", "; set mqtt.host to broker, mqtt.username to user"),
        (
            "mqtt://u%40x:secret@broker:1884",
            (
                "; set mqtt.host to broker, mqtt.port to 1884, mqtt.username to u@x, "
                "mqtt.password_file to a file with the password"
            ),
        ),
        ("user:se/cret@broker", "(got '***@broker', set by command line)"),
    ],
)
def test_host_with_login_names_the_settings_without_the_password(host: str, fix: str) -> None:
    (problem,) = problems(flags={("mqtt", "host"): host})
    assert problem.endswith(fix)
    assert "secret" not in problem


def test_all_problems_are_reported_with_their_origins(tmp_path: Path) -> None:
    file = written(tmp_path, 'sink = "paper"\n[mqtt]\nprot = 1\nport = "many"\n')
    found = problems(file, {"EDGE_DAEMON_MQTT__RATE": "0"}, {("capture", "fps"): "-1"})
    origins = {line.split(":")[0]: line for line in found}
    assert set(origins) == {"sink", "mqtt.prot", "mqtt.port", "mqtt.rate", "capture.fps"}
    assert len(found) == 5
    for key in ("sink", "mqtt.prot", "mqtt.port"):
        assert origins[key].endswith(f"set by {file})") or f"set by {file})" in origins[key]
    assert origins["mqtt.rate"].endswith("set by EDGE_DAEMON_MQTT__RATE)")
    assert origins["capture.fps"].endswith("set by command line)")


def test_problem_names_the_layer_with_priority(tmp_path: Path) -> None:
    file = written(tmp_path, '[mqtt]\nport = 5\nhost = "x"\n')
    (problem,) = problems(file, {"EDGE_DAEMON_MQTT__PORT": "0"})
    assert problem.endswith("set by EDGE_DAEMON_MQTT__PORT)")
    (problem,) = problems(file, {"EDGE_DAEMON_MQTT": "x"})
    assert problem.startswith("mqtt: ")
    assert problem.endswith("set by EDGE_DAEMON_MQTT)")


@pytest.mark.parametrize("later", [("mqtt", "host"), ("mqtt", "port")])
def test_value_instead_of_section_is_refused_despite_later_layer(
    tmp_path: Path, later: tuple[str, ...]
) -> None:
    (problem,) = problems(None, {"EDGE_DAEMON_MQTT": "5"}, {later: "1"})
    assert "(got '5', set by " in problem
    assert problem.endswith("set by EDGE_DAEMON_MQTT)")
    (problem,) = problems(written(tmp_path, "mqtt = 5"), {"EDGE_DAEMON_MQTT__HOST": "broker"})
    assert problem.startswith("mqtt: must be a section, with its keys below it (got 5,")


def test_password_file_defaults_to_the_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_settings().mqtt.password_file is None
    (tmp_path / "mqtt-password").write_text("secret")
    assert load_settings().mqtt.password_file == tmp_path / "mqtt-password"
    mine = load_settings(flags={("mqtt", "password_file"): "mine"})
    assert mine.mqtt.password_file == Path("mine")


@pytest.mark.parametrize("content", [b"mqtt = [", b"a = 1\na = 2", b"\xff\xfe", b"just words"])
def test_file_with_invalid_toml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    (problem,) = problems(file)
    assert problem.startswith(f"{file}: invalid TOML")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_file_in_another_encoding_is_refused_with_the_fix(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text('device_id = "tür"', encoding=encoding)
    (problem,) = problems(file)
    assert problem.startswith(f"{file}: invalid TOML")
    assert "UTF-8" in problem


@pytest.mark.parametrize("setting", ["capture.fps", "mqtt.port", "capture.rotation"])
def test_number_refuses_true(tmp_path: Path, setting: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"{setting} = true")
    (problem,) = problems(file)
    assert problem.startswith(f"{setting}: ")


def test_broker_host_is_stripped_of_spaces() -> None:
    settings = load_settings(flags={("mqtt", "host"): " broker.local "})
    assert settings.mqtt.host == "broker.local"


def test_missing_file_or_folder_is_refused_by_name(tmp_path: Path) -> None:
    for file in (tmp_path / "absent.toml", tmp_path):
        (problem,) = problems(file)
        assert problem.startswith(f"{file}: cannot be read: ")


def test_state_folder_prefers_the_service_over_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/home/me/state")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert default_state_dir() == Path("/home/me/state/edge-daemon")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-daemon:/var/lib/other")
    assert default_state_dir() == Path("/var/lib/edge-daemon")


def path_settings() -> list[tuple[str, ...]]:
    """Settings that are a path, from the types of all settings."""
    models = {(): Settings} | {(key,): model for key, model in subsections(Settings).items()}
    return [
        (*parent, key)
        for parent, model in models.items()
        for key, field in model.model_fields.items()
        if "Path" in repr(field.annotation)
    ]


@pytest.mark.parametrize("path", [("source",), *path_settings()])
def test_path_begins_with_the_home_directory(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    setting = ".".join(path)
    for text, expected in {
        "~/a": "/home/me/a",
        "~": "/home/me",
        "~root/a": f"{Path('~root').expanduser()}/a",
        "./~/a": "~/a",
        "a/~": "a/~",
    }.items():
        values = dict(leaves(load_settings(None, {}, {path: text}).model_dump()))
        assert Path(str(values[path])) == Path(expected), setting
    (problem,) = problems(flags={path: "~no such user/a"})
    assert problem.startswith(f"{setting}: unknown home directory (got '~no such user/a', ")


@pytest.mark.parametrize(
    ("host", "device"),
    [("pi-4.lan", "pi-4"), ("a b+c#d/e", "a-b-c-d-e"), ("türkamera", "t-rkamera"), ("", "device")],
)
def test_device_id_is_the_host_name_without_invalid_characters(
    monkeypatch: pytest.MonkeyPatch, host: str, device: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert default_device_id() == device
    assert Settings().device_id == device


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9469", ("127.0.0.1", 9469)),
        ("[::1]:80", ("::1", 80)),
        ("porch.local:65535", ("porch.local", 65535)),
    ],
)
def test_metrics_address_is_host_and_port(listen: str, address: tuple[str, int]) -> None:
    settings = load_settings(flags={("metrics", "listen"): listen})
    assert settings.metrics.address == address


@pytest.mark.parametrize(
    "listen",
    ["", "9469", ":9469", "pi", "pi:", "pi:0", "pi:65536", "pi:x", "me@pi:1", "pi:1/x", "[::1:1"],
)
def test_metrics_address_must_be_host_and_port(listen: str) -> None:
    (problem,) = problems(flags={("metrics", "listen"): listen})
    assert problem.startswith("metrics.listen: must be HOST:PORT (got ")
    assert problem.endswith("; write 127.0.0.1:9469")


def test_metrics_are_disabled_by_default() -> None:
    assert load_settings().metrics.address is None


LISTEN = ("preview", "listen")
HERE = "127.0.0.1:8469"


def test_preview_is_disabled_by_default() -> None:
    settings = load_settings()
    assert (settings.preview.address, settings.sink) == (None, "mqtt")
    assert not settings.capture.loop


def test_preview_alone_needs_no_broker_and_loops_files() -> None:
    settings = load_settings(flags={LISTEN: HERE})
    assert settings.preview.address == ("127.0.0.1", 8469)
    assert (settings.sink, settings.capture.loop) == ("none", True)


def test_preview_keeps_the_values_of_any_layer(tmp_path: Path) -> None:
    look = {LISTEN: HERE}
    file = written(tmp_path, '[mqtt]\nhost = "broker.local"\n')
    assert load_settings(file, flags=look).sink == "mqtt"
    assert (
        load_settings(environment={"EDGE_DAEMON_MQTT__HOST": "broker"}, flags=look).sink == "mqtt"
    )
    assert load_settings(environment={"EDGE_DAEMON_SINK": "mqtt"}, flags=look).sink == "mqtt"
    assert load_settings(flags={**look, ("sink",): "jsonl"}).sink == "jsonl"
    once = load_settings(flags={**look, ("capture", "loop"): "false"})
    assert (once.capture.loop, once.sink) == (False, "none")


def test_value_instead_of_section_is_refused_with_preview() -> None:
    (problem,) = problems(environment={"EDGE_DAEMON_CAPTURE": "5"}, flags={LISTEN: HERE})
    assert problem.startswith("capture: must be a section")


@pytest.mark.parametrize("listen", ["", "8469", "pi:0"])
def test_preview_address_must_be_host_and_port(listen: str) -> None:
    (problem,) = problems(flags={LISTEN: listen})
    assert problem.startswith("preview.listen: ")
    assert problem.endswith("; write 127.0.0.1:8469")


def test_every_setting_is_described() -> None:
    def undescribed(model: type[Section]) -> list[str]:
        inner = subsections(model)
        bare = [key for key, field in model.model_fields.items() if not field.description]
        nested = [key for section in inner.values() for key in undescribed(section)]
        return [key for key in bare if key not in inner] + nested

    assert undescribed(Settings) == []


texts = st.text(string.printable, max_size=8) | st.text(max_size=8)
names = st.text(string.ascii_lowercase + "_.", max_size=8)
keys = st.sampled_from(sorted({key for path in EVERY_PATH for key in path})) | names
scalars = st.booleans() | st.integers() | st.floats() | texts | st.datetimes()
values = scalars | st.lists(scalars | st.dictionaries(keys, scalars, max_size=2), max_size=3)
sections = st.dictionaries(keys, values | st.dictionaries(keys, values, max_size=2), max_size=4)
trees = st.dictionaries(keys, values | sections, max_size=6)
numbers = st.one_of(st.integers(), st.floats()).map(str)


def load_or_refuse(
    file: Path | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[tuple[str, ...], object] | None = None,
) -> None:
    """Loading succeeds or raises `SettingsError` with one line per problem, and nothing else."""
    try:
        settings = load_settings(file, environment, flags)
    except SettingsError as refusal:
        problem_lines = refusal.problems
    else:
        assert isinstance(settings, Settings)
        return
    assert problem_lines
    assert all(len(line.splitlines()) == 1 for line in problem_lines)


@pytest.mark.slow
@given(trees)
def test_any_file_gives_settings_or_a_refusal(tree: dict[str, object]) -> None:
    with patch("edge_daemon.config.loading.tomllib.loads", return_value=tree):
        load_or_refuse(Path(__file__))


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(EVERY_PATH), texts | numbers, min_size=1, max_size=3))
def test_any_text_for_known_settings_gives_settings_or_a_refusal(
    flags: dict[tuple[str, ...], object],
) -> None:
    load_or_refuse(flags=flags)


@pytest.mark.slow
@given(st.dictionaries(names.map("EDGE_DAEMON_".__add__), texts, max_size=4))
def test_any_environment_gives_settings_or_a_refusal(environment: dict[str, str]) -> None:
    load_or_refuse(environment=environment)
