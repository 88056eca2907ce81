import gc
import os
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from capture.media import FPS, FRAMES, SCENES, cut, ffmpeg, needs_ffmpeg, video
from conftest import material
from drawing import Image, draw_scene, write_clip

from edge_daemon.capture import CapturedFrame, create_source, video_decoding
from edge_daemon.capture.base import Reader, SourceIncomplete
from edge_daemon.capture.video_decoding import DEFAULT_FPS
from edge_daemon.capture.videos import CutDetector, VideoFile
from edge_daemon.errors import SourceError

H264 = ("-c:v", "libx264", "-g", 5, "-pix_fmt", "yuv420p")

COMPLETE = {
    "mp4": H264,
    "mov": ("-c:v", "mjpeg"),
    "mkv": H264,
    "webm": ("-c:v", "libvpx", "-deadline", "realtime"),
    "ts": ("-c:v", "mpeg2video", "-r", 25, "-vsync", "cfr"),
    "flv": ("-c:v", "flv1"),
    "avi": ("-c:v", "mpeg4"),
    "wmv": ("-c:v", "wmv2"),
    "dv": ("-s", "720x576", "-r", 25, "-pix_fmt", "yuv420p"),
}
"""Formats, with the encoder's options."""

STATE_DURATION = {
    "mp4": (*H264, "-movflags", "+faststart"),
    "mkv": H264,
    "webm": COMPLETE["webm"],
    "flv": COMPLETE["flv"],
    "avi": COMPLETE["avi"],
}
"""Formats that show when their end is missing."""

IDENTITY_MATRIX = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
"""Of a track that is shown as it is stored (ISO/IEC 14496-12)."""


def read_into(pictures: list[CapturedFrame], reader: Reader) -> None:
    while (found := reader.read()) is not None:
        pictures.append(found)


def read_all(path: Path) -> list[CapturedFrame]:
    reader = create_source(str(path)).open()
    pictures: list[CapturedFrame] = []
    try:
        read_into(pictures, reader)
    finally:
        reader.close()
    return pictures


def times_of(pictures: list[CapturedFrame]) -> list[float]:
    return [picture.position_s or 0.0 for picture in pictures]


def difference(picture: CapturedFrame, scene: Image) -> float:
    """Mean difference of the grey values."""
    expected = cv2.resize(scene, picture.bgr.shape[1::-1])
    return float(np.abs(picture.bgr.astype(int) - expected).mean())


def test_video_gives_every_frame_once_with_its_time(drawn_clip: Path) -> None:
    source = create_source(str(drawn_clip))
    assert isinstance(source, VideoFile)
    assert not source.is_live
    pictures = read_all(drawn_clip)
    assert [one.stream_time_s for one in pictures] == pytest.approx(np.arange(12) / 10)
    assert [one.position_s for one in pictures] == pytest.approx(np.arange(12) / 10)
    assert {one.bgr.shape for one in pictures} == {(240, 320, 3)}
    assert {one.bgr.dtype for one in pictures} == {np.dtype(np.uint8)}
    assert {one.scene for one in pictures} == {0}


def test_frames_keep_their_pixels_after_the_next_read(drawn_clip: Path) -> None:
    first, *others = read_all(drawn_clip)
    assert first.bgr.flags.c_contiguous
    assert not any(np.array_equal(first.bgr, other.bgr) for other in others)


def test_video_opens_again(drawn_clip: Path) -> None:
    source = VideoFile(drawn_clip)
    for _ in range(2):
        reader = source.open()
        pictures: list[CapturedFrame] = []
        read_into(pictures, reader)
        assert len(pictures) == 12
        reader.close()
        reader.close()


@needs_ffmpeg
@pytest.mark.parametrize("suffix", COMPLETE)
def test_complete_video_of_any_format_ends_without_error(tmp_path: Path, suffix: str) -> None:
    pictures = read_all(video(tmp_path / f"clip.{suffix}", *COMPLETE[suffix]))
    assert len(pictures) == FRAMES * (2.5 if "-r" in COMPLETE[suffix] else 1)
    assert times_of(pictures)[0] == pytest.approx(0, abs=0.1)
    assert times_of(pictures)[-1] == pytest.approx(FRAMES / FPS, abs=0.15)
    assert difference(pictures[-1], SCENES[-1]) < 8


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_video_of_variable_rate_is_complete(tmp_path: Path, suffix: str) -> None:
    thinned = ("-vf", "select='not(between(mod(n,10),3,9))'", "-vsync", "vfr", *H264)
    pictures = read_all(video(tmp_path / f"clip.{suffix}", *thinned))
    assert len(pictures) == 12
    expected = [ten + step / FPS for ten in range(4) for step in range(3)]
    assert times_of(pictures) == pytest.approx(expected, abs=0.01)


@needs_ffmpeg
def test_video_with_edit_list_is_complete(tmp_path: Path) -> None:
    whole = video(tmp_path / "whole.mp4", *H264[:2], "-g", 20, "-bf", 2)
    ffmpeg("-ss", 1.3, "-i", whole, "-c", "copy", tmp_path / "cut.mp4")
    pictures = read_all(tmp_path / "cut.mp4")
    assert len(pictures) == pytest.approx(FRAMES - 13, abs=1)


def textured(seed: int) -> Image:
    """A scene of its own: large random spots on a random background."""
    spots = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), np.uint8)
    return np.asarray(cv2.resize(spots, (320, 240), interpolation=cv2.INTER_CUBIC), np.uint8)


def shifted(image: Image, right: int) -> Image:
    return np.asarray(np.roll(image, right, axis=1), np.uint8)


def cuts_in(frames: list[Image], fps: float = 10) -> list[int]:
    detector = CutDetector()
    return [number for number, bgr in enumerate(frames) if detector.is_cut(bgr, number / fps)]


def test_cut_between_shots_is_found() -> None:
    shots = [textured(seed) for seed in range(4) for _ in range(10)]
    assert cuts_in(shots) == [10, 20, 30]
    black = np.zeros((240, 320, 3), np.uint8)
    assert cuts_in([textured(0)] * 5 + [black] * 5 + [textured(1)] * 5) == [10]


CHANGES: dict[str, Callable[[Image, int], Image]] = {
    "flash": lambda image, step: cv2.add(image, (200, 200, 200, 0)) if step == 5 else image,
    "exposure": lambda image, step: cv2.convertScaleAbs(image, alpha=0.3 if step > 5 else 1),
    "fade": lambda image, step: cv2.convertScaleAbs(image, alpha=max(0, 1 - step / 8)),
    "pan": lambda image, step: shifted(image, 50 * step),
    "banner": lambda image, step: cv2.rectangle(
        image.copy(), (0, 180), (320, 240), (200, 30, 30), -1 if step > 5 else 1
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_within_a_shot_is_no_cut(change: str) -> None:
    assert cuts_in([CHANGES[change](textured(0), step) for step in range(12)]) == []


def test_slow_motion_in_front_of_a_plain_wall_is_no_cut() -> None:
    people = [cv2.resize(textured(seed), (60, 100)) for seed in range(2)]
    frames = []
    for step in range(60):
        frames.append(np.full((240, 320, 3), 120, np.uint8))
        for left, person in zip((20 + 2 * step, 250 - 2 * step), people, strict=True):
            frames[-1][70:170, left : left + 60] = person
    assert cuts_in(frames, fps=25) == []


def test_flicker_of_whole_frames_is_at_most_one_cut() -> None:
    assert len(cuts_in([textured(seed) for seed in range(20)])) <= 1


def test_video_with_cuts_has_a_scene_for_each_shot(tmp_path: Path) -> None:
    shots = [textured(seed) for seed in range(3) for _ in range(6)]
    path = write_clip(tmp_path / "cuts.avi", shots, codec="MJPG")
    assert [one.scene for one in read_all(path)] == [0] * 6 + [1] * 6 + [2] * 6


def test_real_clips_are_one_scene_each(clips: list[Path]) -> None:
    for clip in clips:
        assert {one.scene for one in read_all(clip)} == {0}


@needs_ffmpeg
@pytest.mark.parametrize("suffix", STATE_DURATION)
def test_truncated_video_is_read_then_reported(tmp_path: Path, suffix: str) -> None:
    path = cut(video(tmp_path / f"clip.{suffix}", *STATE_DURATION[suffix]), 0.5)
    reader = VideoFile(path).open()
    read: list[CapturedFrame] = []
    with pytest.raises(SourceIncomplete) as end:
        read_into(read, reader)
    reader.close()
    assert 3 < len(read) < 35
    assert str(path) in str(end.value)
    assert f"after {len(read)} frames" in str(end.value)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv"])
def test_part_of_a_longer_recording_is_complete_unless_cut(tmp_path: Path, suffix: str) -> None:
    options = (*STATE_DURATION[suffix], "-output_ts_offset", 100)
    path = video(tmp_path / f"clip.{suffix}", *options)
    assert len(read_all(path)) == FRAMES
    with pytest.raises(SourceIncomplete):
        read_all(cut(path, 0.5))


@needs_ffmpeg
def test_video_with_later_subtitles_is_complete(tmp_path: Path) -> None:
    clip = video(tmp_path / "clip.mp4", *H264)
    subtitles = tmp_path / "clip.srt"
    subtitles.write_text("1\n00:00:01,000 --> 00:00:20,000\nHello\n")
    titled = tmp_path / "titled.mkv"
    ffmpeg("-i", clip, "-i", subtitles, "-map", 0, "-map", 1, "-c:v", "copy", titled)
    assert len(read_all(titled)) == FRAMES


@needs_ffmpeg
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", ("-c:v", "libx264", "-x264-params", "tff=1", "-flags", "+ildct+ilme")),
        ("ts", ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-r", 25)),
        ("dv", COMPLETE["dv"]),
    ],
)
def test_interlaced_video_gives_the_frames_it_holds(
    tmp_path: Path, suffix: str, options: tuple[object, ...]
) -> None:
    pictures = read_all(video(tmp_path / f"clip.{suffix}", "-pix_fmt", "yuv420p", *options))
    step = len(pictures) // FRAMES
    assert max(map(difference, pictures[::step], SCENES)) < 8


@needs_ffmpeg
@pytest.mark.parametrize(
    ("suffix", "options", "fps"),
    [
        ("h264", H264, FPS),
        ("h265", ("-c:v", "libx265", "-x265-params", "log-level=error"), FPS),
        ("hevc", ("-c:v", "libx265", "-x265-params", "no-vui-timing-info=1"), DEFAULT_FPS),
        ("mjpeg", ("-c:v", "mjpeg"), DEFAULT_FPS),
    ],
)
def test_video_without_timestamps_advances_by_its_rate(
    tmp_path: Path, suffix: str, options: tuple[object, ...], fps: float
) -> None:
    pictures = read_all(video(tmp_path / f"clip.{suffix}", *options))
    assert times_of(pictures) == pytest.approx(np.arange(FRAMES) / fps)


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_with_b_frames_keeps_its_length(tmp_path: Path, codec: str) -> None:
    path = video(tmp_path / "clip.avi", "-c:v", codec, "-bf", 2, "-b_strategy", 0)
    times = times_of(read_all(path))
    assert min(np.diff(times)) > 0
    assert times[-1] == pytest.approx(FRAMES / FPS, abs=0.3)


@needs_ffmpeg
def test_video_whose_timestamps_jump_back_advances(tmp_path: Path) -> None:
    clip = video(tmp_path / "clip.ts", *H264)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * clip.read_bytes())
    times = times_of(read_all(joined))
    assert len(times) >= 2 * FRAMES - 5
    assert min(np.diff(times)) > 0
    assert times[-1] == pytest.approx(len(times) / FPS, abs=1)


@needs_ffmpeg
@pytest.mark.parametrize("rest", ["0", "floor(N/2)-2*floor(N/4)"], ids=["equal", "nearly equal"])
def test_video_with_timestamps_in_bursts_keeps_its_length(tmp_path: Path, rest: str) -> None:
    clip = video(tmp_path / "clip.mkv", "-c:v", "mjpeg")
    bursts = tmp_path / "bursts.mkv"
    timestamp = f"floor(N/4)*4*{1000 / FPS}+{rest}"
    ffmpeg("-i", clip, "-c", "copy", "-bsf:v", f"setts=ts={timestamp}", bursts)
    times = times_of(read_all(bursts))
    assert min(np.diff(times)) > 0
    assert times[::4] == pytest.approx(np.arange(0, FRAMES, 4) / FPS, abs=0.002)


@needs_ffmpeg
@pytest.mark.parametrize("order", [(0, 7200), (7200, 0)], ids=["ahead", "back"])
def test_joined_video_has_the_sum_of_lengths(tmp_path: Path, order: tuple[int, int]) -> None:
    clip = video(tmp_path / "clip.mp4", *H264)
    joined = tmp_path / "joined.ts"
    with joined.open("wb") as file:
        for offset in order:
            part = tmp_path / f"{offset}.ts"
            ffmpeg("-i", clip, "-c", "copy", "-output_ts_offset", offset, part)
            file.write(part.read_bytes())
    times = times_of(read_all(joined))
    assert len(times) >= 2 * FRAMES - 5
    assert min(np.diff(times)) > 0
    assert times[-1] == pytest.approx(len(times) / FPS, abs=1)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["ts", "mp4"])
def test_time_lapse_keeps_its_times(tmp_path: Path, suffix: str) -> None:
    slowed = ("-vf", "setpts=N*15/TB", "-vsync", "passthrough")
    path = video(tmp_path / f"clip.{suffix}", *slowed, *H264)
    assert np.diff(times_of(read_all(path))) == pytest.approx(15, abs=0.1)


@needs_ffmpeg
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_video_is_turned_as_its_metadata_asks(tmp_path: Path, degrees: int) -> None:
    flat = video(tmp_path / "flat.mp4", *H264)
    turned = tmp_path / "turned.mp4"
    ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v", f"rotate={degrees}", turned)
    ffmpeg("-i", turned, "-frames:v", 1, tmp_path / "first.png")
    expected = cv2.imread(str(tmp_path / "first.png"))
    first, *_ = read_all(turned)
    assert first.bgr.shape == expected.shape
    assert difference(first, expected) < 2
    assert difference(first, expected[::-1, ::-1]) > 10


@needs_ffmpeg
@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((-1, 0, 0, 1), lambda stored: stored[:, ::-1]),
        ((1, 0, 0, -1), lambda stored: stored[::-1]),
        ((0, 1, 1, 0), lambda stored: stored.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda stored: stored.swapaxes(0, 1)[::-1, ::-1]),
        ((-1, 0, 0, -1), lambda stored: stored[::-1, ::-1]),
        ((0, 1, -1, 0), lambda stored: np.rot90(stored, -1)),
        ((0, -1, 1, 0), np.rot90),
    ],
    ids=["hflip", "vflip", "transpose", "transverse", "180", "90", "270"],
)
def test_video_is_mirrored_as_its_display_matrix_asks(
    tmp_path: Path, matrix: tuple[int, int, int, int], upright: Callable[[Image], Image]
) -> None:
    path = video(tmp_path / "clip.mp4", *H264)
    stored, *_ = read_all(path)
    a, b, c, d = (value << 16 for value in matrix)
    content = bytearray(path.read_bytes())
    place = content.find(IDENTITY_MATRIX, content.find(b"tkhd"))
    content[place : place + len(IDENTITY_MATRIX)] = struct.pack(
        ">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30
    )
    path.write_bytes(content)
    first, *others = read_all(path)
    assert np.array_equal(first.bgr, upright(stored.bgr))
    assert first.bgr.flags.c_contiguous
    assert {other.bgr.shape for other in others} == {first.bgr.shape}


def alive_frames() -> int:
    return sum(isinstance(thing, VideoFrame) for thing in gc.get_objects())


@needs_ffmpeg
def test_video_frames_are_freed_without_garbage_collection(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", *H264)
    gc.collect()
    gc.disable()
    try:
        reader = VideoFile(path).open()
        while reader.read() is not None:
            pass
        while_open = alive_frames()
        reader.close()
        del reader
        closed = alive_frames()
    finally:
        gc.enable()
    assert while_open <= 2
    assert closed == 0


@needs_ffmpeg
@pytest.mark.parametrize(
    ("aspect", "size"),
    [("16/11", (465, 240)), ("1/2", (160, 240)), ("101/100", (320, 240)), ("9/1", (320, 240))],
)
def test_video_is_stretched_to_square_pixels(
    tmp_path: Path, aspect: str, size: tuple[int, int]
) -> None:
    path = video(tmp_path / "clip.mp4", *H264, "-vf", f"setsar={aspect}")
    first, *_ = read_all(path)
    assert first.bgr.shape[1::-1] == size
    assert difference(first, SCENES[0]) < 8


@needs_ffmpeg
def test_turned_video_is_stretched_before_it_is_turned(tmp_path: Path) -> None:
    flat = video(tmp_path / "flat.mp4", *H264, "-vf", "setsar=3/2")
    turned = tmp_path / "turned.mp4"
    ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v", "rotate=90", turned)
    first, *_ = read_all(turned)
    assert first.bgr.shape == (480, 240, 3)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("suffix", "sizes", "default", "track"),
    [
        ("mp4", (160, 320), 1, 2),
        ("mp4", (160, 320), 0, 1),
        ("mkv", (160, 320), 1, 2),
        ("mkv", (160, 320), 0, 1),
        ("mkv", (160, 320), None, 2),
        ("mkv", (320, 160), None, 1),
    ],
)
def test_default_or_largest_video_track_is_read(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    suffix: str,
    sizes: tuple[int, int],
    default: int | None,
    track: int,
) -> None:
    caplog.set_level("INFO")
    clip = video(tmp_path / "clip.mp4", *H264)
    path = tmp_path / f"tracks.{suffix}"
    options: list[object] = ["-map", 0, "-map", 0, "-c:v", "libx264"]
    for number, width in enumerate(sizes):
        options += [f"-filter:v:{number}", f"scale={width}:-2"]
        options += [f"-disposition:v:{number}", "default" if number == default else "0"]
    ffmpeg("-i", clip, *options, path)
    pictures = read_all(path)
    assert {picture.bgr.shape[1] for picture in pictures} == {sizes[track - 1]}
    (line,) = [one for one in caplog.records if "track" in one.message]
    assert (vars(line)["track"], vars(line)["of"]) == (track, 2)


@needs_ffmpeg
def test_relative_name_with_colons_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video(tmp_path / "clip.mp4", *H264).rename(tmp_path / "cam1-12:30:00.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(read_all(Path("cam1-12:30:00.mp4"))) == FRAMES


@needs_ffmpeg
def test_video_with_a_title_of_another_encoding_is_read(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.avi", "-c:v", "mjpeg", "-metadata", "title=XXXX")
    path.write_bytes(path.read_bytes().replace(b"XXXX", b"caf\xe9"))
    assert len(read_all(path)) == FRAMES


@needs_ffmpeg
@pytest.mark.parametrize("content", ["audio", "audio and cover"])
def test_audio_file_is_not_a_video(tmp_path: Path, content: str) -> None:
    path = tmp_path / "song.mp3"
    tone = ("-f", "lavfi", "-i", "sine=duration=1")
    if "cover" in content:
        cv2.imwrite(str(tmp_path / "cover.png"), SCENES[0])
        ffmpeg(*tone, "-i", tmp_path / "cover.png", "-map", 0, "-map", 1, "-c:v", "png", path)
    else:
        ffmpeg(*tone, path)
    with pytest.raises(SourceError, match=r"^source: no video stream \(got .*song\.mp3\); "):
        create_source(str(path)).open()


@needs_ffmpeg
def test_video_with_damaged_frames_reports_their_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = video(tmp_path / "clip.mkv", *H264)
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content) // 2):
        content[place] ^= 0x55
    path.write_bytes(content)
    source = VideoFile(path)
    for _ in range(2):  # as a video that repeats
        pictures: list[CapturedFrame] = []
        reader = source.open()
        read_into(pictures, reader)
        reader.close()
        assert 10 < len(pictures) < FRAMES
    (line,) = [one for one in caplog.records if one.message == "damaged frames skipped"]
    assert vars(line)["frames"] > 0


@pytest.mark.parametrize("share", [0.4, 0.45, 0.5, 0.55])
def test_frame_that_a_file_holds_in_part_is_left_out(tmp_path: Path, share: float) -> None:
    path = cut(write_clip(tmp_path / "clip.avi", SCENES, FPS, codec="MJPG"), share)
    pictures: list[CapturedFrame] = []
    with pytest.raises(SourceIncomplete):
        read_into(pictures, VideoFile(path).open())
    assert max(map(difference, pictures, SCENES)) < 4


def damage(path: Path, share: float) -> None:
    """Change bytes from this share of the file on, about one frame long."""
    content = bytearray(path.read_bytes())
    start = round(share * len(content))
    for place in range(start, start + len(content) // FRAMES, 7):
        content[place] ^= 0x55
    path.write_bytes(content)


def moving_scenes() -> list[Image]:
    """Scenes in which damage stays visible: noise that moves by a pixel a frame."""
    noise = np.random.default_rng(7).integers(0, 255, (30, 40, 3), np.uint8)
    large = np.asarray(cv2.resize(noise, (320, 240)), np.uint8)
    return [np.roll(large, 3 * step, axis=1) for step in range(FRAMES)]


@needs_ffmpeg
@pytest.mark.parametrize("share", [0.3, 0.36, 0.42])
def test_video_after_damage_continues_at_a_key_frame(tmp_path: Path, share: float) -> None:
    scenes = moving_scenes()
    drawn = write_clip(tmp_path / "drawn.avi", scenes, FPS, codec="MJPG")
    path = tmp_path / "clip.mkv"
    ffmpeg("-i", drawn, "-c:v", "libx264", "-g", 20, "-keyint_min", 20, "-bf", 0, path)
    damage(path, share)
    pictures = read_all(path)
    errors = [
        difference(picture, scenes[round(FPS * (picture.position_s or 0))]) for picture in pictures
    ]
    assert max(errors) < 15
    assert len(pictures) < FRAMES
    assert [round(FPS * time) for time in times_of(pictures)][-20:] == list(range(20, 40))


@needs_ffmpeg
def test_video_without_key_frames_continues_after_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_decoding, "MAX_SKIPPED", 10)
    path = video(tmp_path / "clip.mkv", "-c:v", "libx264", "-g", 1000)
    damage(path, 0.5)
    pictures = read_all(path)
    assert 10 <= FRAMES - len(pictures) <= 14
    assert times_of(pictures)[-1] == pytest.approx((FRAMES - 1) / FPS)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("empty.mp4", b"", "empty"),
        ("words.mp4", b"just some words", "not a video"),
        ("words.txt", b"just some words", "not a video"),
        ("zeros.avi", bytes(5000), "not a video"),
        ("head.mp4", b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "not a video"),
    ],
)
def test_file_without_video_is_refused(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=problem) as refusal:
        create_source(str(path)).open()
    assert str(path) in str(refusal.value)


def test_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match=r"pipe\.mp4: not a regular file"):
        create_source(str(tmp_path / "pipe.mp4")).open()


def test_video_without_its_index_is_refused(tmp_path: Path) -> None:
    scenes = [draw_scene((step, 60, 120)) for step in range(10)]
    path = cut(write_clip(tmp_path / "clip.mp4", scenes), 0.5)
    with pytest.raises(SourceError, match="not a video"):
        VideoFile(path).open()


@pytest.mark.parametrize(
    ("case", "frames"),
    [
        ("interlaced_h264.mp4", 50),
        ("vfr.mkv", 29),
        ("vfr.ts", 29),
        ("lossless_cut.mp4", 45),
        ("rpicam_raw.h264", 62),
        ("cam1-12:30:00.mp4", 29),
    ],
)
def test_recorded_video_is_complete(case: str, frames: int) -> None:
    assert len(read_all(material(f"cases/{case}"))) == frames
