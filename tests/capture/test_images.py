import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import Image, draw_scene

from edge_daemon.capture import Picture, source_from
from edge_daemon.capture.base import Source
from edge_daemon.capture.images import SUFFIXES, PictureFile, PictureFolder, decode
from edge_daemon.errors import SourceError

SCENE = draw_scene((60, 60, 120))
GREY = cv2.cvtColor(SCENE, cv2.COLOR_BGR2GRAY)
COLOURED = np.dstack([SCENE[..., 0], SCENE[..., 0] // 2, SCENE[..., 0] // 4])


def picture(path: Path, image: np.ndarray = SCENE) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def all_from(source: Source) -> list[Picture]:
    reader = source.open()
    pictures = []
    while (found := reader.read()) is not None:
        pictures.append(found)
    reader.close()
    return pictures


def mean_difference(image: Image | None, expected: Image) -> float:
    assert image is not None
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    return float(np.abs(image.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_kind_of_picture_is_read_as_bgr(tmp_path: Path, suffix: str) -> None:
    path = picture(tmp_path / f"colour{suffix}", COLOURED)
    assert mean_difference(decode(path), COLOURED) < 4


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("deep.png", COLOURED.astype(np.uint16) * 257, COLOURED),
        ("deep.tiff", COLOURED.astype(np.uint16) * 257, COLOURED),
        ("deep_grey.png", GREY.astype(np.uint16) * 257, SCENE),
        ("deep_grey.tiff", GREY.astype(np.uint16) * 257, SCENE),
        ("grey.png", GREY, SCENE),
        ("grey.jpg", GREY, SCENE),
        ("grey.tiff", GREY, SCENE),
        ("rgba.png", cv2.cvtColor(COLOURED, cv2.COLOR_BGR2BGRA), COLOURED),
        ("UPPER.PNG", COLOURED, COLOURED),
    ],
)
def test_every_depth_and_number_of_channels_becomes_8_bit_bgr(
    tmp_path: Path, name: str, image: np.ndarray, expected: Image
) -> None:
    assert mean_difference(decode(picture(tmp_path / name, image)), expected) < 2


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".tiff", ".webp"])
def test_picture_cut_short_is_damaged(tmp_path: Path, suffix: str, share: float) -> None:
    assert decode(cut(picture(tmp_path / f"face{suffix}"), share)) is None


def test_jpeg_cut_short_is_damaged_even_if_opencv_makes_up_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path / "face.jpg")
    monkeypatch.setattr("cv2.imdecode", lambda *_: SCENE)
    assert decode(path) is not None
    assert decode(cut(path, 0.8)) is None


def test_jpeg_with_more_behind_its_end_is_whole(tmp_path: Path) -> None:
    path = picture(tmp_path / "face.jpg")
    path.write_bytes(path.read_bytes() + b"\x00 a camera's own notes")
    assert decode(path) is not None


@pytest.mark.parametrize("content", [b"", b"words", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    assert decode(path) is None


def test_single_picture_is_one_frame(tmp_path: Path) -> None:
    source = source_from(str(picture(tmp_path / "face.png")))
    assert isinstance(source, PictureFile)
    assert not source.live
    (only,) = all_from(source)
    assert mean_difference(only.bgr, SCENE) == 0


def test_damaged_single_picture_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = cut(picture(tmp_path / "face.png"), 0.5)
    with pytest.raises(SourceError, match=r"face\.png"):
        source_from(str(path)).open()


def test_folder_gives_its_pictures_by_name_each_a_scene_of_its_own(tmp_path: Path) -> None:
    for grey, name in ((30, "c.png"), (10, "a.png"), (20, "b.PNG")):
        picture(tmp_path / name, np.full((8, 8, 3), grey, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    source = source_from(str(tmp_path))
    assert isinstance(source, PictureFolder)
    assert not source.live
    found = all_from(source)
    assert [int(one.bgr[0, 0, 0]) for one in found] == [10, 20, 30]
    assert len({one.scene for one in found}) == 3
    times = [one.stream_time for one in found]
    assert times == sorted(times)
    assert len(set(times)) == 3
    assert [(one.file, one.position_s) for one in found] == [
        ("a.png", None),
        ("b.PNG", None),
        ("c.png", None),
    ]


def test_damaged_pictures_of_a_folder_are_skipped_named_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        picture(tmp_path / name)
    cut(tmp_path / "b.png", 0.5)
    (tmp_path / "d.png").unlink()
    (tmp_path / "d.png").mkdir()
    found = all_from(PictureFolder(tmp_path))
    assert [one.scene for one in found] == [0, 2]
    named = [vars(record).get("file") for record in caplog.records]
    assert named == [str(tmp_path / "b.png"), str(tmp_path / "d.png"), None]
    last = vars(caplog.records[-1])
    assert (last["skipped"], last["of"], last["levelno"]) == (2, 4, logging.WARNING)


def test_folder_in_order_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "a.png")
    all_from(PictureFolder(tmp_path))
    assert caplog.records == []


def test_folder_of_damaged_pictures_only_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    reader = PictureFolder(tmp_path).open()
    with pytest.raises(SourceError, match="none of its 1"):
        reader.read()


def test_folder_without_pictures_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(SourceError, match=str(tmp_path)):
        PictureFolder(tmp_path).open()


def test_what_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.png"):
        source_from(str(tmp_path / "absent.png"))
