"""The command as a user runs it, on a drawn face that the daemon's cascade finds."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import draw_scene
from PIL import Image as Pillow

from edge_daemon.records import EMOTIONS, Image
from emotion_trainer.annotation.annotator import copies
from emotion_trainer.cli import main

TWO_FACES = ((60, 60, 120), (420, 150, 160))
SIZE = (640, 360)


@pytest.fixture(autouse=True)
def no_fetched_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def write(path: Path, scene: Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), scene)
    return path


def predict(out: Path, *images: Path) -> int:
    return main(["predict", *map(str, images), "--out", str(out)])


def lines(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines()]


def test_predict_prints_and_marks_each_face(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = draw_scene(*TWO_FACES, size=SIZE)
    file = write(tmp_path / "two.png", scene)
    assert predict(out, file) == 0
    rows = lines(capsys.readouterr().out)
    assert len(rows) == len(TWO_FACES)
    for (name, box, emotion, confidence), (x, y, side) in zip(rows, TWO_FACES, strict=True):
        left, top, width, height = map(int, box.split())
        assert name == str(file)
        assert np.hypot(left + width / 2 - x - side / 2, top + height / 2 - y - side / 2) < 30
        assert emotion in EMOTIONS
        assert 1 / 7 < float(confidence) <= 1
    copy = cv2.imread(str(out / "two.png"))
    assert copy is not None
    assert copy.shape[1] * copy.shape[0] > SIZE[0] * SIZE[1]
    assert np.abs(cv2.resize(copy, SIZE).astype(int) - scene).max() > 100


def test_predict_of_a_folder_keeps_names_and_order(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.jpg", "a.png", "C.JPG"):
        write(tmp_path / "in" / name, draw_scene(TWO_FACES[0]))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert predict(out, tmp_path / "in") == 0
    assert sorted(path.name for path in out.iterdir()) == ["C.JPG", "a.png", "b.jpg"]
    assert [Path(line[0]).name for line in lines(capsys.readouterr().out)] == [
        "C.JPG",
        "a.png",
        "b.jpg",
    ]


def test_predict_of_equal_names_keeps_both(tmp_path: Path, out: Path) -> None:
    scenes = {"x": draw_scene(TWO_FACES[0]), "y": draw_scene()}
    files = [write(tmp_path / place / "a.png", scene) for place, scene in scenes.items()]
    assert predict(out, *files) == 0
    marked, plain = (cv2.imread(str(out / place / "a.png")) for place in scenes)
    assert marked is not None
    assert plain is not None
    assert np.ptp(plain) == 0
    assert np.ptp(marked) > 0


def test_predict_of_unreadable_files_continues_and_fails(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.png", draw_scene(TWO_FACES[0]))
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(good.read_bytes()[:300])
    absent, video, empty = tmp_path / "absent.png", tmp_path / "clip.mp4", tmp_path / "empty"
    video.touch()
    empty.mkdir()
    assert predict(out, damaged, absent, video, empty, good) == 1
    printed = capsys.readouterr()
    assert len(lines(printed.out)) == 1
    assert [path.name for path in out.iterdir()] == ["good.png"]
    *problems, last = (line for line in printed.err.splitlines() if "INFO" not in line)
    named = sorted(problem.partition(": ")[0] for problem in problems)
    assert named == sorted(map(str, (damaged, absent, video, empty)))
    assert last.startswith("emotion-trainer: 4 ")


def test_predict_applies_the_exif_orientation(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upright = Pillow.fromarray(draw_scene(TWO_FACES[0], size=SIZE))
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    upright.transpose(Pillow.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert predict(out, tmp_path / "a.jpg") == 0
    ((_, box, *_),) = lines(capsys.readouterr().out)
    x, y, width, height = map(int, box.split())
    assert (x + width / 2, y + height / 2) == pytest.approx((120, 120), abs=15)
    with Pillow.open(out / "a.jpg") as copy:
        assert copy.width > copy.height
        assert copy.getexif().get(0x0112, 1) == 1


def test_predict_never_overwrites_its_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.png", draw_scene(TWO_FACES[0]))
    before = file.read_bytes()
    assert predict(tmp_path, file) == 1
    assert file.read_bytes() == before
    assert capsys.readouterr().err.startswith(f"{file}: ")


def test_predict_without_a_face_copies_and_reports(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.png", draw_scene())
    assert predict(out, file) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{file}: ")
    assert (out / "a.png").exists()


def test_predict_into_a_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.png", draw_scene())
    assert predict(file / "out", file) == 1
    assert capsys.readouterr().err.startswith(f"{file / 'out' / 'a.png'}: ")


@pytest.mark.parametrize(("option", "code"), [("--bundle", 1), ("--detector-model", 2)])
def test_predict_without_models_is_one_line(
    tmp_path: Path, option: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "a.png", "--out", str(tmp_path / "out"), option, str(tmp_path / "absent")]
    assert main(words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "absent") in line


def test_copies_are_distinct_files() -> None:
    files = [Path("p/a.png"), Path("p/q/a.png"), Path("r/b.png"), Path("s/a.png")]
    assert copies([*files, Path.cwd() / "p/a.png"], Path("out")) == {
        Path.cwd() / "p/a.png": Path("out/p/a.png"),
        Path("p/q/a.png"): Path("out/p/q/a.png"),
        Path("r/b.png"): Path("out/b.png"),
        Path("s/a.png"): Path("out/s/a.png"),
    }


def test_copies_of_links_are_distinct_files(tmp_path: Path) -> None:
    links = [tmp_path / place / "a.png" for place in ("x", "y")]
    for number, link in enumerate(links):
        target = write(tmp_path / f"{number}.png", draw_scene())
        link.parent.mkdir()
        link.symlink_to(target)
    assert set(copies(links, Path("out")).values()) == {Path("out/x/a.png"), Path("out/y/a.png")}
