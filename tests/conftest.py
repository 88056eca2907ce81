"""Shared fixtures: optional test material, a bundle, a clock, and the program."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis
import pytest
from drawing import draw_scene, write_clip

pytest_plugins = ["markers", "publishing.fixtures"]

# The examples are the same in every run, and a busy machine may take long for each of them.
hypothesis.settings.register_profile(
    "deterministic",
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("deterministic")

MATERIAL = Path(os.environ.get("TEST_MATERIAL", Path(__file__).parents[2] / "shared"))
"""Real clips, pictures and detector models, which this repository may not carry."""


def material(path: str) -> Path:
    """A part of the material; skip the test if it is absent."""
    found = MATERIAL / path
    if not found.exists():
        pytest.skip(f"needs {path} in {MATERIAL} (set TEST_MATERIAL)")
    return found


@pytest.fixture(scope="session")
def yunet_model() -> Path:
    return material("models/face_detection_yunet_2023mar.onnx")


@pytest.fixture(scope="session")
def clips() -> list[Path]:
    return sorted(material("clips").glob("*.mp4"))


@pytest.fixture(scope="session")
def drawn_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of one drawn face that moves a little to the right."""
    scenes = [draw_scene((60 + 2 * step, 60, 120)) for step in range(12)]
    return write_clip(tmp_path_factory.mktemp("clips") / "drawn.mp4", scenes)


class FakeClock:
    """A clock that advances only when its fields are set."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class _QuickAsyncio:
    """The module asyncio, whose sleeps take a twentieth of their time."""

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


@pytest.fixture
def _quick_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uvicorn poll often: its intervals of 0.1 s would delay the end of each server."""
    monkeypatch.setattr("uvicorn.server.asyncio", _QuickAsyncio())


Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run `edge-daemon` with these arguments, without this user's settings and state."""

    def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_daemon", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=120,  # a multiple of what it takes on a busy machine
            check=False,
            env=clean_environment(tmp_path) | environment,
        )

    return run


def clean_environment(state: Path) -> dict[str, str]:
    """This process's environment without the daemon's settings, with a separate state folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_DAEMON_")}
    return kept | {"XDG_STATE_HOME": str(state / "state")}
