"""What can be written of which source."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_daemon.capture import Source, create_source
from edge_daemon.capture.wrappers import Orientation
from edge_daemon.config.settings import Settings
from edge_daemon.errors import SettingsError
from edge_daemon.output import OutputKind, OutputOptions, check_options, kind_of, open_outputs

CAMERA = "/dev/video0"


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    """A source of each kind; none is opened."""
    (tmp_path / "photos").mkdir()
    for name in ("clip.mp4", "photo.png"):
        (tmp_path / name).touch()
    names = ("clip.mp4", "photo.png", "photos")
    return {"camera": CAMERA} | {name: str(tmp_path / name) for name in names}


def problems(
    source: Source | str, *outputs: Path, summaries: tuple[Path, ...] = (), thumbnails: bool = False
) -> tuple[str, ...]:
    source = create_source(source) if isinstance(source, str) else source
    options = OutputOptions(outputs, summaries, has_thumbnails=thumbnails)
    try:
        check_options(options, source, is_repeated=False)
    except SettingsError as error:
        return error.problems
    return ()


def test_thumbnails_without_outputs_are_refused(sources: dict[str, str]) -> None:
    source = create_source(sources["clip.mp4"])
    options = OutputOptions(has_thumbnails=True)
    with pytest.raises(SettingsError) as refused, ExitStack() as resources:
        open_outputs(options, source, Settings(), resources)
    (problem,) = refused.value.problems
    assert problem.startswith("--summary-thumbnails: requires --summary; ")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", OutputKind.CSV),
        ("a.CSV", OutputKind.CSV),
        ("a.parquet", OutputKind.PARQUET),
        ("a.mp4", OutputKind.VIDEO),
        ("a.mkv", OutputKind.VIDEO),
        ("a.jpeg", OutputKind.IMAGE),
        ("a", OutputKind.FOLDER),
        ("a.xls", None),
        ("a.heic", None),
    ],
)
def test_kind_of_a_path_follows_its_suffix(
    tmp_path: Path, name: str, kind: OutputKind | None
) -> None:
    assert kind_of(tmp_path / name) is kind


def test_kind_of_an_existing_folder_is_folder(tmp_path: Path) -> None:
    folder = tmp_path / "photos.2026"
    folder.mkdir()
    assert kind_of(folder) is OutputKind.FOLDER


@pytest.mark.parametrize(
    ("source", "accepted"),
    [
        ("camera", {"t.csv", "t.parquet"}),
        ("clip.mp4", {"t.csv", "t.parquet", "t.mp4"}),
        ("photo.png", {"t.csv", "t.parquet", "t.png", "t"}),
        ("photos", {"t.csv", "t.parquet", "t"}),
    ],
)
@pytest.mark.parametrize("orientation", [Orientation(), Orientation(180)], ids=str)
def test_options_of_each_source_are_accepted_or_refused(
    tmp_path: Path,
    sources: dict[str, str],
    source: str,
    accepted: set[str],
    orientation: Orientation,
) -> None:
    names = {"t.csv", "t.parquet", "t.mp4", "t.png", "t"}
    oriented = create_source(sources[source], orientation=orientation)
    assert {name for name in names if not problems(oriented, tmp_path / name)} == accepted


@pytest.mark.parametrize("source", ["camera", "clip.mp4", "photo.png", "photos"])
def test_summary_of_any_source_is_accepted(
    tmp_path: Path, sources: dict[str, str], source: str
) -> None:
    paths = (tmp_path / "a.html", tmp_path / "a.png")
    assert problems(sources[source], summaries=paths) == ()


def test_thumbnails_of_a_live_source_are_refused(tmp_path: Path) -> None:
    (line,) = problems(CAMERA, summaries=(tmp_path / "a.html",), thumbnails=True)
    assert line.startswith("--summary-thumbnails: ")


def test_thumbnails_without_a_summary_are_refused(sources: dict[str, str]) -> None:
    (line,) = problems(sources["clip.mp4"], thumbnails=True)
    assert line.startswith("--summary-thumbnails: ")


@pytest.mark.parametrize("name", ["a.xls", "missing/a.csv", "clip.mp4"])
def test_unusable_output_is_one_problem_with_the_path(
    tmp_path: Path, sources: dict[str, str], name: str
) -> None:
    (line,) = problems(sources["clip.mp4"], tmp_path / name)
    assert line.startswith("--output: ")
    assert str((tmp_path / name).parent) in line


@pytest.mark.parametrize("name", ["a.pdf", "a"])
def test_summary_of_unknown_type_is_refused(
    tmp_path: Path, sources: dict[str, str], name: str
) -> None:
    (line,) = problems(sources["clip.mp4"], summaries=(tmp_path / name,))
    assert line.startswith("--summary: ")


def test_folder_of_the_source_is_refused(sources: dict[str, str]) -> None:
    (line,) = problems(sources["photos"], Path(sources["photos"]))
    assert line.startswith("--output: ")


def test_folder_with_the_source_image_is_refused(tmp_path: Path, sources: dict[str, str]) -> None:
    (line,) = problems(sources["photo.png"], tmp_path)
    assert line.startswith("--output: ")


def test_summary_among_the_source_images_is_refused(sources: dict[str, str]) -> None:
    folder = Path(sources["photos"])
    (line,) = problems(str(folder), summaries=(folder / "a.html", folder / "a.png"))
    assert line.startswith("--summary: ")
    assert str(folder / "a.png") in line


def test_file_named_twice_is_refused(tmp_path: Path, sources: dict[str, str]) -> None:
    path = tmp_path / "a.png"
    assert len(problems(sources["photo.png"], path, summaries=(path,))) == 1


def test_several_problems_are_reported_together(tmp_path: Path) -> None:
    assert len(problems(CAMERA, tmp_path / "a.mp4", tmp_path / "a.xls")) == 2


def test_repeated_file_is_refused(tmp_path: Path, sources: dict[str, str]) -> None:
    options = OutputOptions((tmp_path / "a.csv",))
    with pytest.raises(SettingsError, match=r"^capture\.loop: "):
        check_options(options, create_source(sources["clip.mp4"]), is_repeated=True)
