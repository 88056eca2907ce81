"""Generated settings: the program accepts them, or reports an error per line with exit code 2."""

import contextlib
import io
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from fuzz.generated import many
from fuzz.program import run
from hypothesis import example, given
from hypothesis import strategies as st
from publishing.broker import Mosquitto

from edge_daemon import cli
from edge_daemon.config.formatting import example as example_file
from edge_daemon.config.loading import ENVIRONMENT_PREFIX
from edge_daemon.config.settings import Settings, subsections

MAX_LINE_LENGTH = 1000

KEYS = [
    *Settings.model_fields,
    *(
        f"{name}.{key}"
        for name, model in subsections(Settings).items()
        for key in model.model_fields
    ),
]
LINES = example_file().splitlines()
SETTINGS = [number for number, line in enumerate(LINES) if line.startswith("#") and " = " in line]

words = st.text(max_size=12) | st.sampled_from(
    [
        "nan",
        "-inf",
        "1e999",
        "9" * 5000,
        "-1",
        "0",
        "true",
        "x" * 70_000,
        "/dev/zero\0",
        "a\nb",
        "\x1b[2J",
    ]
)
keys = st.sampled_from(KEYS) | st.text(max_size=12) | st.just(".".join("a" * 2000))
nested = st.just("mqtt.host." + ".".join("a" * 2000))

values = st.sampled_from(
    [
        *("nan", "inf", "-inf", "1e400", "-0.0", "9" * 4000, "9" * 5000, "0x" + "f" * 5000),
        *('""', '"\\u0000"', '"a\\nb"', '"\\u001b[2J"', '"' + "x" * 70_000 + '"', "[]", "{}"),
        *("1979-05-27", "07:32:00", "[[1]]", "{a = {b = 1}}", "[" * 5000 + "]" * 5000, "true"),
        *("'''\n\n'''", "0o7777777", "0b1", '"\\ud800"', "= 1", "]", "\0"),
    ]
) | st.text(max_size=12)


def main(
    words: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run the command line in this process; return the exit code, the output and the errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment or {}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = cli.main(words)
    return code, out.getvalue(), err.getvalue()


def assert_printed_or_refused(
    words: Sequence[str], environment: Mapping[str, str] | None = None
) -> None:
    """Assert that the settings are printed as TOML, or refused with error lines."""
    code, out, err = main(words, environment)
    if code == 0:
        assert err == ""
        tomllib.loads(out)
        return
    assert code == 2, err
    assert out == ""
    assert err
    for line in err.splitlines():
        assert line.startswith("edge-daemon: ")
        assert "--debug shows where" not in line
        assert line.isprintable()
        assert len(line) < MAX_LINE_LENGTH


@pytest.fixture(autouse=True)
def _no_settings_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "config.toml"


@many(60)
@given(st.dictionaries(st.sampled_from(SETTINGS), values, min_size=1, max_size=4))
def test_any_value_in_a_file(file: Path, changes: dict[int, str]) -> None:
    lines = list(LINES)
    for number, value in changes.items():
        lines[number] = f"{lines[number].removeprefix('#').partition('=')[0]}= {value}"
    file.write_bytes("\n".join(lines).encode(errors="surrogatepass"))
    assert_printed_or_refused(["config", "--config", str(file)])


@many(40)
@given(st.binary(max_size=60), st.integers(0, 200))
@example(b"\xff\xfe" + "source = 1".encode("utf-16-le"), 0)
@example(b".".join([b"a"] * 3000) + b" = 1", 0)
@example(b'"a\\nb" = 1', 0)
@example(b'mqtt."a\\u001bb" = 1', 0)
def test_any_bytes_in_a_file(file: Path, junk: bytes, place: int) -> None:
    head = b'sink = "none"\n[mqtt]\nhost = "broker"\nport = 1883\n'
    file.write_bytes(head[:place] + junk + head[place:])
    assert_printed_or_refused(["config", "--config", str(file)])


@many(40)
@given(st.lists(st.tuples(keys | nested, words), min_size=1, max_size=3))
def test_any_words_of_set(assignments: list[tuple[str, str]]) -> None:
    flags = [word for key, value in assignments for word in ("--set", f"{key}={value}")]
    assert_printed_or_refused(["config", *flags])


@many(40)
@given(st.dictionaries(keys, words, min_size=1, max_size=3))
def test_any_variables(variables: dict[str, str]) -> None:
    environment = {
        f"EDGE_DAEMON_{key.replace('.', '__').upper()}": value
        for key, value in variables.items()
        if "\0" not in key + value and "=" not in key
    }
    with contextlib.suppress(UnicodeEncodeError):  # not representable in an environment
        assert_printed_or_refused(["config"], environment)


@many(40)
@given(
    st.lists(
        st.sampled_from(["--sink", "--source", "--threads", "--preview", "-x", "--set"]) | words,
        max_size=4,
    )
)
def test_any_flags(flags: list[str]) -> None:
    assert_printed_or_refused(["config", *flags, "--sink", "none"])


BAD_FILES = {
    "bytes": b"\xff\xfe\x00",
    "endless number": b"port = " + b"9" * 5000,
    "endless levels": b"x = " + b"[" * 5000 + b"]" * 5000,
    "NUL in a path": b'state_dir = "a\\u0000b"',
    "lines in a name": b'device_id = "a\\nb"',
    "a section's value": b"mqtt = 1",
}


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("content", BAD_FILES.values(), ids=list(BAD_FILES))
def test_bad_file_is_refused_by_run_and_reported_by_check(
    tmp_path: Path, file: Path, content: bytes, command: str
) -> None:
    file.write_bytes(content)
    done = run(command, "--config", file, state=tmp_path)
    if command == "check":
        (line,) = done.out.splitlines()
        assert line.startswith("FAIL settings: ")
        assert (done.code, done.err) == (1, "")
    else:
        (line,) = done.refusals
        assert (done.code, done.out) == (2, "")
        done.assert_orderly()
    assert str(file) in line


def bounds() -> dict[str, tuple[float, float]]:
    """The minimum and the maximum of each numeric setting."""
    schema = Settings.model_json_schema()
    found = {}
    for section, model in subsections(Settings).items():
        for key, about in schema["$defs"][model.__name__]["properties"].items():
            kinds = [about, *about.get("anyOf", [])]
            number = next((kind for kind in kinds if "minimum" in kind and "maximum" in kind), None)
            if number is not None:
                found[f"{section}.{key}"] = (number["minimum"], number["maximum"])
    return found


BOUNDS = bounds()
choices = st.fixed_dictionaries(
    {key: st.sampled_from([None, least, most]) for key, (least, most) in BOUNDS.items()}
)


def test_every_number_has_bounds() -> None:
    numbers = {
        f"{section}.{key}"
        for section, model in subsections(Settings).items()
        for key, field in model.model_fields.items()
        if any(kind in str(field.annotation) for kind in ("int", "float"))
    }
    assert numbers - {"zones.ignore"} == BOUNDS.keys()  # coordinates, with bounds of their own


@many(5)
@given(choices)
@example(dict.fromkeys(BOUNDS))
@example({key: least for key, (least, _) in BOUNDS.items()})
@example({key: most for key, (_, most) in BOUNDS.items()})
def test_numbers_at_their_bounds_run(
    tmp_path: Path, drawn_clip: Path, chosen: dict[str, float | None]
) -> None:
    del chosen["mqtt.port"]
    flags = [
        word
        for key, value in chosen.items()
        if value is not None
        for word in ("--set", f"{key}={value}")
    ]
    words = ("--source", drawn_clip, "--sink", "jsonl", "--detector", "haar")
    done = run(*words, *flags, state=tmp_path)
    done.assert_orderly()
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert len(lines) in {12, 13}  # of each frame, and of the faces that leave at the end
    assert all('"kind":"left"' in line for line in lines[12:])


@pytest.mark.parametrize("which", [0, 1], ids=["least", "most"])
def test_numbers_at_their_bounds_publish(tmp_path: Path, drawn_clip: Path, which: int) -> None:
    flags = [
        word
        for key, both in BOUNDS.items()
        if key != "mqtt.port"
        for word in ("--set", f"{key}={both[which]}")
    ]
    with Mosquitto(tmp_path) as broker:
        words = ("--source", drawn_clip, "--set", "mqtt.host=127.0.0.1")
        port = ("--set", f"mqtt.port={broker.port}")
        done = run(*words, *port, "--detector", "haar", *flags, state=tmp_path)
    done.assert_orderly()
    assert done.code == 0, done.err
