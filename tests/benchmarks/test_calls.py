"""The count of a frame's calls, and a limit on it."""

import pytest
from drawing import draw_scene, write_clip

from benchmarks import calls

MAX_CALLS = 120
"""Of the package's functions, for a frame with one face."""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> calls.Calls:
    scenes = [draw_scene((60 + 2 * step, 60, 120)) for step in range(2 * calls.FRAMES)]
    return calls.measure(write_clip(tmp_path_factory.mktemp("clips") / "drawn.mp4", scenes))


def test_calls_of_a_frame_stay_below_the_limit(counted: calls.Calls) -> None:
    assert 0.5 * MAX_CALLS < counted.total <= MAX_CALLS
    assert len(counted.files) <= 20


def test_calls_are_counted_in_every_thread(counted: calls.Calls) -> None:
    assert counted.functions["capture/videos.py:VideoFileReader.read"] == 1
    assert counted.functions["inference/ensemble.py:EmotionEnsemble.predict"] == 1
    assert counted.functions["publishing/__init__.py:JsonLines.__call__"] == 1
