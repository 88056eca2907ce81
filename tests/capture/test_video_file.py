from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import draw_scene, write_clip

from edge_daemon.capture import Picture, source_from
from edge_daemon.capture.base import Reader
from edge_daemon.capture.video_file import VideoFile
from edge_daemon.errors import SourceError


def read_into(pictures: list[Picture], reader: Reader) -> None:
    while (found := reader.read()) is not None:
        pictures.append(found)


def read_all(reader: Reader) -> list[Picture]:
    pictures: list[Picture] = []
    read_into(pictures, reader)
    return pictures


def motion_jpeg(path: Path, frames: int) -> Path:
    """A clip of which each frame stands for itself, so that a cut costs just what it cuts off."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for step in range(frames):
        writer.write(draw_scene((2 * step, 60, 120)))
    writer.release()
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def test_every_frame_comes_once_with_its_time(drawn_clip: Path) -> None:
    source = source_from(str(drawn_clip))
    assert isinstance(source, VideoFile)
    assert not source.live
    reader = source.open()
    pictures = read_all(reader)
    reader.close()
    assert [one.stream_time for one in pictures] == pytest.approx(np.arange(12) / 10)
    assert [one.position_s for one in pictures] == pytest.approx(np.arange(12) / 10)
    assert {one.bgr.shape for one in pictures} == {(240, 320, 3)}
    assert {one.bgr.dtype for one in pictures} == {np.dtype(np.uint8)}
    assert {one.scene for one in pictures} == {0}


def test_frames_keep_their_pixels_after_the_next_is_read(drawn_clip: Path) -> None:
    reader = source_from(str(drawn_clip)).open()
    first, *_ = pictures = read_all(reader)
    reader.close()
    assert not any(np.array_equal(first.bgr, other.bgr) for other in pictures[1:])


def test_file_can_be_opened_again(drawn_clip: Path) -> None:
    source = VideoFile(drawn_clip)
    for _ in range(2):
        reader = source.open()
        assert len(read_all(reader)) == 12
        reader.close()
        reader.close()


def test_truncated_file_is_read_as_far_as_it_goes_then_told(tmp_path: Path) -> None:
    path = cut(motion_jpeg(tmp_path / "clip.avi", 40), 0.5)
    reader = VideoFile(path).open()
    read: list[Picture] = []
    with pytest.raises(SourceError, match=r"clip\.avi.* of 40 frames") as end:
        read_into(read, reader)
    reader.close()
    assert 10 < len(read) < 30
    assert f"{len(read)} of 40" in str(end.value)


def test_one_frame_less_than_promised_is_no_damage(tmp_path: Path) -> None:
    whole = motion_jpeg(tmp_path / "clip.avi", 40)
    reader = VideoFile(whole).open()
    reader._promised += 1
    assert len(read_all(reader)) == 40
    reader.close()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.mp4", b"", "empty"),
        ("words.mp4", b"just some words", "not a video"),
        ("words.txt", b"just some words", "not a video"),
        ("zeros.avi", bytes(5000), "not a video"),
        ("head.mp4", b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "not a video"),
    ],
)
def test_what_is_no_video_is_an_error_that_names_it(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said) as refusal:
        source_from(str(path)).open()
    assert str(path) in str(refusal.value)


def test_file_that_lost_its_index_is_an_error(tmp_path: Path) -> None:
    scenes = [draw_scene((step, 60, 120)) for step in range(10)]
    path = cut(write_clip(tmp_path / "clip.mp4", scenes), 0.5)
    with pytest.raises(SourceError, match="not a video"):
        VideoFile(path).open()
