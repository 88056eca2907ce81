from pathlib import Path

import pytest

from benchmarks.contestants.timing import images, played
from benchmarks.scenes import LENGTH, write_scenes
from edge_daemon._lib.files import bundled_detector
from edge_daemon.detection.bundled import BundledDetector
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.errors import SourceError


def test_scene_has_as_many_faces_as_are_wanted(drawn_clip: Path, tmp_path: Path) -> None:
    detector = BundledDetector(bundled_detector(), 0.7)
    scenes = write_scenes([drawn_clip], [detector], [1, 8], tmp_path)
    for faces, clip in scenes.items():
        frames = list(images(str(clip)))
        assert len(frames) == LENGTH
        assert frames[0].shape == (480, 640, 3)
        found = [face for face in detector.detect(frames[7]) if face.score >= detector.start_score]
        assert len(found) == faces


def test_clips_without_faces_are_refused(drawn_clip: Path, tmp_path: Path) -> None:
    blind = HaarDetector(min_size=239)
    with pytest.raises(SourceError, match="no face in these clips"):
        write_scenes([drawn_clip], [blind], [1], tmp_path)


def test_clip_is_played_again_from_its_start(drawn_clip: Path) -> None:
    again = played(str(drawn_clip))
    first = [next(again) for _ in range(12)]
    assert (next(again) == first[0]).all()
