import dataclasses
import gc
import weakref
from datetime import timedelta

import numpy as np
from conftest import FakeClock

from edge_daemon.capture import CapturedFrame
from edge_daemon.capture.loop import FrameMaker

MEMORY = 2.0


def picture(scene: int = 0, stream_time_s: float | None = None) -> CapturedFrame:
    return CapturedFrame(np.full((4, 6, 3), 200, np.uint8), stream_time_s, scene)


def test_blank_frame_is_black_in_size_and_of_a_new_scene(clock: FakeClock) -> None:
    maker = FrameMaker(clock, MEMORY)
    frame = maker.frame(picture())
    clock.seconds += 3
    blank = maker.blank()
    assert blank is not None
    assert (frame.is_blank, blank.is_blank) == (False, True)
    assert (blank.width, blank.height) == (6, 4)
    assert not blank.bgr.any()
    assert blank.scene != frame.scene
    assert blank.index == frame.index + 1
    assert blank.stream_time_s == blank.captured_monotonic_s == 1003.0


def test_blank_frame_is_made_once_per_loss(clock: FakeClock) -> None:
    maker = FrameMaker(clock, MEMORY)
    assert maker.blank() is None
    maker.frame(picture())
    assert maker.blank() is not None
    assert maker.blank() is None
    maker.frame(picture())
    assert maker.blank() is not None


def test_frames_after_a_blank_are_of_a_new_scene(clock: FakeClock) -> None:
    maker = FrameMaker(clock, MEMORY)
    before = [maker.frame(picture(scene)).scene for scene in range(3)]
    maker.blank()
    after = [maker.frame(picture(scene)).scene for scene in range(2, 5)]
    assert len({*before, *after}) == 6


def test_blank_frame_of_a_file_has_the_stream_time(clock: FakeClock) -> None:
    maker = FrameMaker(clock, MEMORY)
    maker.frame(picture(stream_time_s=7.5))
    clock.seconds += 100
    blank = maker.blank()
    assert blank is not None
    assert blank.stream_time_s == 7.5


def test_blank_frame_of_a_video_has_the_videos_time(clock: FakeClock) -> None:
    """Reading may be faster than the video plays, so now can be before its last frame."""
    maker = FrameMaker(clock, MEMORY)
    maker.frame(dataclasses.replace(picture(stream_time_s=0.0), position_s=0.0))
    clock.seconds += 1
    last = maker.frame(dataclasses.replace(picture(stream_time_s=30.0), position_s=30.0))
    blank = maker.blank()
    assert blank is not None
    assert (blank.captured_at, blank.position_s) == (last.captured_at, 30.0)


def test_frame_maker_keeps_no_pixels(clock: FakeClock) -> None:
    maker = FrameMaker(clock, MEMORY)
    seen = picture()
    pixels = weakref.ref(seen.bgr)
    maker.frame(seen)
    del seen
    gc.collect()
    assert pixels() is None
    assert maker.blank() is not None


def test_frame_carries_position_and_file(clock: FakeClock) -> None:
    maker = FrameMaker(clock, MEMORY)
    pixels = np.zeros((4, 6, 3), np.uint8)
    video = maker.frame(CapturedFrame(pixels, 0.5, position_s=0.5))
    image = maker.frame(CapturedFrame(pixels, 1.0, file="face.jpg"))
    assert (video.position_s, video.file) == (0.5, None)
    assert (image.position_s, image.file) == (None, "face.jpg")


def test_video_times_follow_the_video_not_the_reading(clock: FakeClock) -> None:
    maker = FrameMaker(clock, 2.0)
    began = clock.now()
    times = []
    for number in range(3):
        clock.seconds += 7
        picture = CapturedFrame(np.zeros((2, 2, 3), np.uint8), number / 10, position_s=number / 10)
        times.append(maker.frame(picture).captured_at - began)
    assert times == [timedelta(seconds=7 + number / 10) for number in range(3)]
