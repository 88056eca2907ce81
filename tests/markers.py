"""Markers that follow from what a test uses; pyproject.toml registers and explains them.

    pytest -m "not broker and not browser and not system and not slow"

runs what needs nothing but Python and gives an answer in under a minute.
"""

from pathlib import Path
from typing import Final

import pytest

FIXTURES: Final = {
    "broker": "broker",
    "tls_broker": "broker",
    "chromium": "browser",
    "program": "slow",
    "clips": "slow",
    "yunet_model": "slow",
}
"""Fixtures of which each marks the tests that use it, directly or through others."""

NAMES: Final = {
    "Mosquitto": "broker",
    "Site": "broker",
    "material": "slow",
    "running": "slow",
    "Popen": "slow",
}
"""Classes of which each marks the functions that call it."""

FOLDERS: Final = {
    "benchmarks": ("slow",),
    "fuzz": ("slow",),
    "faults": ("slow",),
    "home_assistant": ("broker", "slow"),
    "load": ("broker", "slow"),
    "soak": ("slow",),
    "system": ("system", "broker", "slow"),
}

FILES: Final = {
    "capture/test_streams.py": ("slow",),
    "capture/test_videos.py": ("slow",),
    "config/test_reload.py": ("slow",),
    "deploy/test_debian.py": ("slow",),
    "deploy/test_mosquitto.py": ("broker",),
    "output/test_program.py": ("slow",),
    "output/test_progress.py": ("slow",),
    "preview/test_history.py": ("slow",),
    "preview/test_server.py": ("slow",),
    "examples/test_node_red.py": ("slow",),
    "publishing/test_publisher.py": ("broker", "slow"),
    "test_daemon.py": ("slow",),
    "test_readme.py": ("slow",),
    "test_real_clips.py": ("slow",),
}

DEFAULT_TIMEOUT_S: Final = 120
TESTS: Final = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out, without an import, what `-m "not slow"` would deselect as a whole."""
    if "not slow" not in config.option.markexpr or not collection_path.is_relative_to(TESTS):
        return None
    path = collection_path.relative_to(TESTS)
    markers = {*FOLDERS.get(str(path), ()), *FILES.get(str(path), ())}
    return True if "slow" in markers else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in sorted(_markers_of(item)):
            item.add_marker(name)
    # The long files first, so that no worker of xdist is left with one of them at the end.
    items.sort(key=lambda item: "slow" not in _markers_of_file(item.path))


def _markers_of_file(path: Path) -> set[str]:
    inner = path.relative_to(TESTS)
    return {*FOLDERS.get(inner.parts[0], ()), *FILES.get(str(inner), ())}


def _markers_of(item: pytest.Item) -> set[str]:
    found = _markers_of_file(item.path)
    timeout = item.get_closest_marker("timeout")
    if timeout is not None and timeout.args[0] > DEFAULT_TIMEOUT_S:
        found.add("slow")
    if isinstance(item, pytest.Function):
        found |= {FIXTURES[name] for name in FIXTURES.keys() & set(item.fixturenames)}
        found |= {NAMES[name] for name in NAMES.keys() & set(item.function.__code__.co_names)}
    return found
