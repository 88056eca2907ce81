"""Fixtures of the tests that boot a Debian. Without root and the programs for it, they skip."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from drawing import draw_scene, write_clip
from publishing.broker import Mosquitto
from system.box import debian_root, missing
from system.service import DEVICE, GUEST, PASSWORD


@pytest.fixture(scope="session")
def able() -> None:
    """Skips where a Debian cannot be booted."""
    if (reason := missing()) is not None:
        pytest.skip(f"a Debian cannot be booted here: {reason}")


@pytest.fixture(scope="session")
def root(able: None) -> Path:
    return debian_root("bookworm")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of one face that moves."""
    scenes = [draw_scene((60 + 2 * step, 60, 120)) for step in range(10)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", scenes)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """It lets everyone listen, and speak as GUEST; as DEVICE only who has the password."""
    described = f"homeassistant/device/edge_daemon_{GUEST}/config"
    guest = (f"topic write edge-daemon/{GUEST}/#", f"topic write {described}")
    rights = ("topic read #", *guest, f"user {DEVICE}", "topic readwrite #")
    folder = tmp_path_factory.mktemp("broker")
    with Mosquitto(folder, {DEVICE: PASSWORD}, guests=True, rights=rights) as mosquitto:
        yield mosquitto
