import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_daemon.config import formatting
from edge_daemon.config.loading import load_settings
from edge_daemon.config.settings import (
    MqttSettings,
    Settings,
    TrackingSettings,
    leaves,
    subsections,
)

UNCOMMENTED_SETTING = re.compile(r"^#(?=\w+ = )", re.MULTILINE)
DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def keys_in(text: str) -> dict[str, set[str]]:
    """The keys of a TOML text by section; the top level's stand under an empty name."""
    found = tomllib.loads(text)
    sections = {name: set(value) for name, value in found.items() if isinstance(value, dict)}
    return sections | {"": set(found) - set(sections)}


def all_keys() -> dict[str, set[str]]:
    inner = subsections(Settings)
    sections = {name: set(model.model_fields) for name, model in inner.items()}
    return sections | {"": set(Settings.model_fields) - set(inner)}


def settings_from(folder: Path, text: str) -> Settings:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def test_example_unchanged_gives_the_defaults(tmp_path: Path) -> None:
    assert settings_from(tmp_path, formatting.example()) == Settings()


def test_example_names_every_setting_once() -> None:
    text = formatting.example()
    assert keys_in(UNCOMMENTED_SETTING.sub("", text)) == all_keys()


def test_example_explains_every_setting() -> None:
    text = re.sub(r"\n# ", " ", formatting.example())
    models = [Settings, *subsections(Settings).values()]
    fields = [field for model in models for field in model.model_fields.values()]
    descriptions = [field.description for field in fields if field.description]
    assert len(descriptions) > 30
    assert [words for words in descriptions if words not in text] == []


EXAMPLES = {
    (*section, key)
    for section, model in [((), Settings), *(((k,), m) for k, m in subsections(Settings).items())]
    for key, field in model.model_fields.items()
    if field.examples
}


def test_example_uncommented_gives_the_defaults_and_the_examples(tmp_path: Path) -> None:
    text = formatting.example()
    uncommented = settings_from(tmp_path, UNCOMMENTED_SETTING.sub("", text))
    before, after = (dict(leaves(each.model_dump())) for each in (Settings(), uncommented))
    assert {path for path in before if before[path] != after[path]} == EXAMPLES


def test_reference_document_is_current() -> None:
    hint = "run: edge-daemon config --markdown > docs/configuration.md"
    assert DOCUMENT.read_text(encoding="utf-8") == formatting.reference(), hint


def test_reference_names_every_setting_and_reload() -> None:
    text = formatting.reference()
    for section, keys in all_keys().items():
        part = text.partition(f"[{section}]\n" if section else "Top level\n")[2]
        table = part.partition("\n## ")[0]
        assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == keys
    assert "| `rate` | 0.001 to 1,000 | `5.0` | reload |" in text
    assert "| `port` | 1 to 65,535 | unset | restart |" in text


def test_example_has_the_set_values_in_their_place(tmp_path: Path) -> None:
    settings = Settings(source="0", mqtt=MqttSettings(host="broker", port=1884))
    text = formatting.example(settings, [("source",), ("mqtt", "port")])
    assert settings_from(tmp_path, text) == Settings(source="0", mqtt=MqttSettings(port=1884))
    assert keys_in(UNCOMMENTED_SETTING.sub("", text)) == all_keys()


def test_effective_settings_read_back_as_the_same(tmp_path: Path) -> None:
    settings = Settings(
        source='clips/ä "b" \\c.mp4',
        state_dir=tmp_path,
        mqtt=MqttSettings(host="broker", username="me", password_file=tmp_path / "p", rate=2.5),
    )
    assert settings_from(tmp_path, formatting.effective(settings)) == settings


@given(name=st.text(st.characters(exclude_categories=["Cs"])), max_age=st.floats(0))
def test_effective_settings_are_toml_for_any_values(name: str, max_age: float) -> None:
    try:
        settings = Settings(
            mqtt=MqttSettings(username=name), tracking=TrackingSettings(max_age=max_age)
        )
    except ValueError:
        return  # refused, so never in force
    found = tomllib.loads(formatting.effective(settings))
    assert found["mqtt"]["username"] == name
    assert found["tracking"]["max_age"] == max_age


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rtsp://me:secret@camera/stream", "rtsp://***@camera/stream"),
        ("rtsp://me:se@cret@camera:554/1", "rtsp://***@camera:554/1"),
        ("rtsp://camera/stream", "rtsp://camera/stream"),
        ("clips/a@b.mp4", "clips/a@b.mp4"),
    ],
)
def test_effective_settings_mask_a_stream_password(source: str, expected: str) -> None:
    text = formatting.effective(Settings(source=source))
    assert tomllib.loads(text)["source"] == expected
    assert "cret" not in text
