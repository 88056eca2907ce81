"""Damaged images and videos, and folders with arbitrary files: results, or one error line."""

import contextlib
import json
import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import draw_scene, write_clip
from fuzz.generated import many
from fuzz.program import Done, run
from hypothesis import given
from hypothesis import strategies as st

from edge_daemon.capture.image_decoding import ImageError, read_image
from edge_daemon.capture.images import MAX_NAMED
from edge_daemon.schema import FacesMessage

SCENE = draw_scene((60, 60, 120))
SUFFIXES = (".bmp", ".jpg", ".png", ".tiff", ".webp")
PICTURES = {suffix: cv2.imencode(suffix, SCENE)[1].tobytes() for suffix in SUFFIXES}

MUXERS = {
    "mp4": ["-c:v", "mpeg4"],
    "mkv": ["-c:v", "libx264", "-preset", "ultrafast"],
    "avi": ["-c:v", "mjpeg"],
    "webm": ["-c:v", "libvpx", "-deadline", "realtime"],
    "ts": ["-c:v", "mpeg2video"],
}


VIDEOS = 5
"""Number of damaged videos of each kind."""


def damaged(content: bytes, seed: int) -> bytes:
    """A copy with flipped bits, the end truncated, or a part removed."""
    chance = random.Random(seed)
    spoilt = bytearray(content)
    reach = len(spoilt) if seed % 2 else min(len(spoilt), 400)
    match seed % 5:
        case 0:
            del spoilt[chance.randrange(len(spoilt)) :]
        case 1:
            start = chance.randrange(len(spoilt))
            del spoilt[start : start + chance.randrange(1, 2000)]
        case _:
            for _ in range(chance.choice([1, 4, 16, 64])):
                spoilt[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def lines_of(done: Done) -> list[dict[str, object]]:
    """All results; each must match the schema and contain no NaN."""
    for line in done.out.splitlines():
        FacesMessage.model_validate_json(line)
    return [json.loads(line, parse_constant=pytest.fail) for line in done.out.splitlines()]


@many(100)
@given(suffix=st.sampled_from(SUFFIXES), seed=st.integers(0, 10**6))
def test_damaged_image_is_refused_or_decoded(tmp_path: Path, suffix: str, seed: int) -> None:
    file = tmp_path / f"face{suffix}"
    file.write_bytes(damaged(PICTURES[suffix], seed))
    with contextlib.suppress(ImageError):
        image = read_image(file)
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)


def test_folder_of_damaged_images_counts_the_skipped_ones(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(100):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        (folder / f"{number:03}{suffix}").write_bytes(damaged(PICTURES[suffix], number))
    done = run("--source", folder, "--sink", "jsonl", "--detector", "haar", state=tmp_path)
    done.assert_orderly()
    assert done.code == 0, done.err
    skipped = 100 - len(lines_of(done))
    assert f"skipped={skipped} of=100 unsupported=0" in done.err
    assert 20 < skipped < 100
    assert done.err.count("image skipped") == MAX_NAMED


def test_folder_of_anything_skips_what_is_not_an_image(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "folder.png").mkdir()
    (folder / "empty.jpg").touch()
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "text.webp").write_text("words")
    (folder / "lines\nin name.png").write_text("words")
    (folder / "huge.png").write_bytes(black_png(60_000, rows=1))
    (folder / "larger.png").write_bytes(black_png(9_000, rows=9_000))
    (folder / "notes.txt").write_text("not looked at")
    (folder / "good.png").write_bytes(PICTURES[".png"])
    (folder / "tiny.png").write_bytes(cv2.imencode(".png", SCENE[:1, :1])[1].tobytes())
    (folder / "wide.png").write_bytes(
        cv2.imencode(".png", np.zeros((1, 5000, 3), np.uint8))[1].tobytes()
    )
    done = run("--source", folder, "--sink", "jsonl", state=tmp_path)
    done.assert_orderly()
    assert done.code == 0, done.err
    assert "skipped=8 of=11 unsupported=1" in done.err
    assert [len(line["faces"]) for line in lines_of(done)] == [1, 0, 0]


def black_png(side: int, rows: int) -> bytes:
    """A small PNG file whose header declares this size, with so many rows of data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + side) * rows), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A short clip in each container."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    folder = tmp_path_factory.mktemp("clips")
    drawn = write_clip(
        folder / "drawn.mp4", [draw_scene((60 + step, 60, 120)) for step in range(12)]
    )
    made = {}
    for muxer, codec in MUXERS.items():
        words = ["ffmpeg", "-v", "error", "-i", drawn, *codec, folder / f"clip.{muxer}"]
        subprocess.run(words, check=True, timeout=60)
        made[muxer] = (folder / f"clip.{muxer}").read_bytes()
    return made


@pytest.mark.parametrize("muxer", MUXERS)
def test_damaged_video_is_played_as_far_as_it_goes(
    tmp_path: Path, clips: dict[str, bytes], muxer: str
) -> None:
    outcomes = []
    for seed in range(VIDEOS):
        file = tmp_path / f"clip.{muxer}"
        file.write_bytes(damaged(clips[muxer], seed))
        done = run("--source", file, "--sink", "jsonl", "--detector", "haar", state=tmp_path)
        done.assert_orderly()
        lines = lines_of(done)
        if done.code:
            (refusal,) = done.refusals
            assert str(file) in refusal
        else:
            assert lines
        outcomes.append((done.code, len(lines)))
    print(muxer, outcomes)
