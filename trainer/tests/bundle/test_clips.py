from pathlib import Path

import pytest

from edge_daemon.inference.ensemble import bundled_models
from emotion_trainer.bundle.clips import predictions_in
from emotion_trainer.errors import DataError


def test_clip_faces_all_have_a_prediction(clip: Path) -> None:
    found = predictions_in(clip, bundled_models(), None)
    assert found.clip == clip.name
    assert found.counts.shape == (7,)
    assert found.counts.sum() == 10


def test_settings_in_the_environment_have_no_effect(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_DAEMON_DETECTION__INTERVAL", "nonsense")
    assert predictions_in(clip, bundled_models(), None).counts.sum() == 10


def test_predictions_in_unreadable_clip_name_it(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"bad\.mp4: ") as caught:
        predictions_in(tmp_path / "bad.mp4", bundled_models(), None)
    assert "\n" not in str(caught.value)
