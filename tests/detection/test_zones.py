import pytest
from builders import frame

from edge_daemon.config.loading import load_settings
from edge_daemon.config.settings import ZoneSettings
from edge_daemon.detection.step import Zones, contains
from edge_daemon.errors import SettingsError
from edge_daemon.records import Box, Detection

FRAME = frame()
"""320x240 pixels."""


def settings(ignore: object = (), min_face: float = 0) -> ZoneSettings:
    return ZoneSettings.model_validate({"ignore": ignore, "min_face": min_face})


def counts(zones: Zones, box: Box) -> bool:
    return bool(zones.filter([Detection(box, 1.0)], FRAME))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [(40, 120, False), (95, 120, False), (97, 120, True), (300, 20, False), (300, 60, True)],
)
def test_zones_ignore_faces_by_their_centre(x: float, y: float, *, expected: bool) -> None:
    zones = Zones(settings([[0, 0, 0.3, 1], [[0.7, 0], [1, 0], [1, 0.2]]]))
    assert counts(zones, Box(x - 10, y - 10, 20, 20)) == expected


@pytest.mark.parametrize(("side", "expected"), [(39, False), (40, True)])
def test_zones_ignore_small_faces(side: float, *, expected: bool) -> None:
    assert counts(Zones(settings(min_face=40)), Box(100, 100, side, 60)) == expected


def test_zones_apply_replaces_the_settings() -> None:
    zones = Zones(settings())
    box = Box(100, 100, 30, 30)
    assert counts(zones, box)
    zones.apply(settings([[0, 0, 1, 1]]))
    assert not counts(zones, box)


def test_contains_handles_concave_polygons() -> None:
    u_shape = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.6, 1.0), (0.6, 0.4), (0.4, 0.4), (0.4, 1.0))
    polygon = (*u_shape, (0.0, 1.0))
    assert contains(polygon, 0.2, 0.8)
    assert contains(polygon, 0.8, 0.8)
    assert not contains(polygon, 0.5, 0.8)


def test_zones_setting_is_read_from_text_and_toml() -> None:
    text = load_settings(flags={("zones", "ignore"): "[[0, 0, 0.5, 0.5]]"})
    assert text.zones.ignore == (((0, 0), (0.5, 0), (0.5, 0.5), (0, 0.5)),)
    assert settings(text.zones.ignore) == text.zones


@pytest.mark.parametrize(
    "ignore",
    ["left", "5", "[0, 0, 1, 1]", "[[0, 0, 1]]", "[[0.5, 0, 0.2, 1]]", "[[0, 0, 2, 1]]",
     "[[[0, 0], [1, 1]]]", "[[[0, 0], [1, 1], [1]]]", '[["a", 0, 1, 1]]', "[null]"],
)  # fmt: skip
def test_zones_setting_invalid_is_refused_by_name(ignore: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings(flags={("zones", "ignore"): ignore})
    assert all(problem.startswith("zones.ignore") for problem in refusal.value.problems)
