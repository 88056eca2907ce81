import logging
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from capture.media import COLOURED, SCENE, all_from, cut, mean_difference, picture
from conftest import FakeClock, material
from PIL import Image as Pillow

from edge_daemon._lib.files import MAX_FILE_BYTES
from edge_daemon.capture import create_source
from edge_daemon.capture.image_decoding import Still, read_still
from edge_daemon.capture.images import MAX_NAMED, ImageFile, ImageFolder, list_folder
from edge_daemon.capture.wrappers import Playback
from edge_daemon.errors import SourceError


def test_recorded_phone_photos_are_one_frame_each() -> None:
    assert len(all_from(create_source(str(material("cases/motion_photo.jpg"))))) == 1
    pytest.importorskip("pillow_heif")
    assert len(all_from(create_source(str(material("cases/photo.heic"))))) == 1


def test_single_image_is_one_frame(tmp_path: Path) -> None:
    source = create_source(str(picture(tmp_path / "face.png")))
    assert isinstance(source, ImageFile)
    assert not source.is_live
    (only,) = all_from(source)
    assert mean_difference(only.bgr, SCENE) == 0


def test_single_image_that_repeats_is_decoded_once(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path / "face.png")
    decoded: list[Path] = []

    def counted(path: Path) -> Still:
        decoded.append(path)
        return read_still(path)

    monkeypatch.setattr("edge_daemon.capture.images.read_still", counted)
    reader = Playback(create_source(str(path)), clock).open()
    assert {mean_difference(reader.read().bgr, SCENE) for _ in range(5)} == {0.0}
    assert decoded == [path]
    picture(path, COLOURED)
    assert mean_difference(reader.read().bgr, COLOURED) == 0
    path.unlink()
    with pytest.raises(SourceError, match=r"face\.png"):
        reader.read()


def test_damaged_single_image_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = cut(picture(tmp_path / "face.png"), 0.5)
    with pytest.raises(SourceError, match=r"face\.png"):
        create_source(str(path)).open()


def test_folder_images_are_sorted_by_name_in_separate_scenes(tmp_path: Path) -> None:
    for grey, name in ((30, "c.png"), (10, "a.png"), (20, "b.PNG")):
        picture(tmp_path / name, np.full((8, 8, 3), grey, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    source = create_source(str(tmp_path))
    assert isinstance(source, ImageFolder)
    assert not source.is_live
    found = all_from(source)
    assert [int(one.bgr[0, 0, 0]) for one in found] == [10, 20, 30]
    assert len({one.scene for one in found}) == 3
    times = [one.stream_time_s for one in found]
    assert times == sorted(times)
    assert len(set(times)) == 3
    assert [(one.file, one.position_s) for one in found] == [
        ("a.png", None),
        ("b.PNG", None),
        ("c.png", None),
    ]


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    return [vars(record) for record in caplog.records if record.message == event]


@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif", ".tif", ".gif"])
@pytest.mark.parametrize("count", [1, 3])
def test_file_of_several_images_is_named_with_their_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, count: int
) -> None:
    others = [Pillow.fromarray(np.full_like(SCENE, 40 * step)) for step in range(1, count)]
    if suffix not in Pillow.registered_extensions():
        pytest.skip(f"this Pillow writes no {suffix}")
    path = tmp_path / f"several{suffix}"
    Pillow.fromarray(SCENE).save(path, save_all=count > 1, append_images=others)
    for source in (ImageFolder(tmp_path), ImageFile(path)):
        caplog.clear()
        assert len(all_from(source)) == 1
        named = lines(caplog, "several images in a file, reading the first")
        assert [(line["file"], line["of"]) for line in named] == [(str(path), count)] * (count > 1)


def test_folder_with_damaged_images_names_and_counts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        picture(tmp_path / name)
    cut(tmp_path / "b.png", 0.5)
    (tmp_path / "d.png").unlink()
    (tmp_path / "d.png").mkdir()
    found = all_from(ImageFolder(tmp_path))
    assert [one.scene for one in found] == [0, 2]
    errors = [str(line["error"]).partition(": ")[0] for line in lines(caplog, "image skipped")]
    assert errors == [str(tmp_path / "b.png"), str(tmp_path / "d.png")]
    (total,) = lines(caplog, "images skipped in total")
    assert (total["skipped"], total["of"], total["unsupported"]) == (2, 4, 0)
    assert total["levelno"] == logging.WARNING


def test_folder_that_repeats_logs_its_warnings_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    picture(tmp_path / "a.png")
    for name in ("b.png", "notes.txt"):
        (tmp_path / name).write_text("no image")
    source = ImageFolder(tmp_path)
    for _ in range(3):
        assert len(all_from(source)) == 1
    events = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert events == ["unsupported files skipped", "image skipped", "images skipped in total"]
    assert len(lines(caplog, "image skipped")) == 3


def test_folder_with_many_damaged_images_names_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture(tmp_path / "a.png")
    for number in range(30):
        (tmp_path / f"b{number}.png").write_text("no image")
    caplog.set_level(logging.DEBUG)
    assert len(all_from(ImageFolder(tmp_path))) == 1
    levels = [line["levelno"] for line in lines(caplog, "image skipped")]
    assert levels == [logging.WARNING] * MAX_NAMED + [logging.DEBUG] * (30 - MAX_NAMED)
    assert lines(caplog, "images skipped in total")[0]["skipped"] == 30


def test_folder_names_unsupported_files_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    picture(tmp_path / "a.png")
    for name in ("b.HEIC", "notes.txt", "Thumbs.db", "desktop.ini", ".DS_Store", "._a.png"):
        (tmp_path / name).write_text("no image")
    assert len(all_from(ImageFolder(tmp_path))) == 1
    (named,) = lines(caplog, "unsupported files skipped")
    assert str(named["files"]).startswith("b.HEIC, notes.txt; ")
    assert "edge-daemon[heic]" in str(named["files"])
    assert lines(caplog, "images skipped in total")[0]["unsupported"] == 2


def test_folder_with_subfolders_counts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture(tmp_path / "a.png")
    for name in ("2023", "2024", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "loop").symlink_to("loop")
    assert len(all_from(ImageFolder(tmp_path))) == 1
    assert [line["folders"] for line in lines(caplog, "subfolders not read")] == [2]


def test_folder_of_subfolders_is_refused_with_the_fix(tmp_path: Path) -> None:
    for name in ("101APPLE", "100APPLE"):
        (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match=r"but 2 subfolders; name one of them.*100APPLE$"):
        ImageFolder(tmp_path).open()


def test_folder_of_unsupported_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (tmp_path / "a.heic").write_text("no image")
    with pytest.raises(SourceError, match=r"a\.heic.*edge-daemon\[heic\]"):
        ImageFolder(tmp_path).open()


def test_folder_with_special_files_does_not_block(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as special:
        special.bind(str(tmp_path / "c.png"))
        (tmp_path / "d.png").symlink_to("/dev/zero")
        assert len(all_from(ImageFolder(tmp_path))) == 1
    assert {str(line["error"]).partition(": ")[2] for line in lines(caplog, "image skipped")} == {
        "not a regular file"
    }
    assert lines(caplog, "images skipped in total")[0]["skipped"] == 3


def test_folder_with_a_huge_file_skips_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "a.png")
    with (tmp_path / "b.jpg").open("wb") as huge:
        huge.truncate(MAX_FILE_BYTES + 1)
    assert len(all_from(ImageFolder(tmp_path))) == 1
    (line,) = lines(caplog, "image skipped")
    assert f"larger than {MAX_FILE_BYTES} bytes" in str(line["error"])


def test_folder_lists_images_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_folder(tmp_path).images] == ["a.JPG", "b.png"]


def test_folder_of_many_files_is_listed_in_linear_time(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05}.jpg").touch()
        (tmp_path / f"{number:05}.txt").touch()
    begun = time.process_time()
    content = list_folder(tmp_path)
    assert time.process_time() - begun < 2.0  # in quadratic time, ten seconds or more
    assert [len(files) for files in content] == [10_000, 10_000, 0]


def test_folder_of_images_logs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "a.png")
    all_from(ImageFolder(tmp_path))
    assert caplog.records == []


def test_folder_of_damaged_images_only_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    reader = ImageFolder(tmp_path).open()
    with pytest.raises(SourceError, match="none of its 1"):
        reader.read()


def test_folder_without_images_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(SourceError, match=str(tmp_path)):
        ImageFolder(tmp_path).open()


def test_absent_path_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.png"):
        create_source(str(tmp_path / "absent.png"))
