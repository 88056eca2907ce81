"""The outputs of a run: their options, checked, and the sink that writes them."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final

from edge_daemon._lib.text import without_password
from edge_daemon.capture import Source, SourceKind
from edge_daemon.config.settings import Settings
from edge_daemon.errors import OutputError, SettingsError
from edge_daemon.output.base import VIDEO_FORMATS, WRITABLE_IMAGE_SUFFIXES, Output, write_errors
from edge_daemon.output.table import CsvTable, ParquetTable
from edge_daemon.records import FrameResult

SUMMARY_SUFFIXES: Final = (".html", ".png")


class OutputKind(Enum):
    """What an output is; its value names it in messages."""

    CSV = "a table"
    PARQUET = "a table in Parquet"
    VIDEO = "an annotated video"
    IMAGE = "an annotated image"
    FOLDER = "a folder of annotated images"


SUITABLE: Final = {
    OutputKind.VIDEO: (SourceKind.VIDEO,),
    OutputKind.IMAGE: (SourceKind.IMAGE,),
    OutputKind.FOLDER: (SourceKind.FOLDER, SourceKind.IMAGE),
}
"""Sources of the outputs that hold images; tables suit all."""

REMEDIES: Final = {
    SourceKind.CAMERA: "images of a camera are never written; use a .csv or .parquet file",
    SourceKind.VIDEO: f"name a {', '.join(VIDEO_FORMATS)} file",
    SourceKind.IMAGE: "name an image file, such as annotated.png",
    SourceKind.FOLDER: "name a folder",
}


@dataclass(frozen=True)
class OutputOptions:
    """The options of the command line, not yet checked."""

    outputs: tuple[Path, ...] = ()
    """`--output`: tables, and annotated copies."""
    summaries: tuple[Path, ...] = ()
    """`--summary`: the page, and its image."""
    has_thumbnails: bool = False
    """`--summary-thumbnails`: whether the summary shows faces."""

    def __bool__(self) -> bool:
        return bool(self.outputs or self.summaries)


def check_options(options: OutputOptions, source: Source, *, is_repeated: bool) -> None:
    """Check all options against each other, the source and the file system.

    Args:
        options: what to check.
        source: what the run reads.
        is_repeated: whether a file is repeated without end (`capture.loop`).

    Raises:
        SettingsError: with one line for each problem.
    """
    problems = list(_problems(options, source))
    if options and is_repeated and not source.is_live:
        problems.append("capture.loop: has no end to write a file at (got true); set it to false")
    if problems:
        raise SettingsError(*problems)


def kind_of(path: Path) -> OutputKind | None:
    """What `--output` means by this path: its suffix decides; None if that is unknown."""
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix:
        return OutputKind.FOLDER
    if suffix in VIDEO_FORMATS:
        return OutputKind.VIDEO
    if suffix in WRITABLE_IMAGE_SUFFIXES:
        return OutputKind.IMAGE
    return {".csv": OutputKind.CSV, ".parquet": OutputKind.PARQUET}.get(suffix)


def _problems(options: OutputOptions, source: Source) -> Iterator[str]:
    for path in options.outputs:
        yield from _output_problems(path, source.kind)
        yield from _path_problems("--output", path, source)
    for path in options.summaries:
        if path.suffix.lower() not in SUMMARY_SUFFIXES:
            yield f"--summary: unknown file type (got {path}); name a .html or .png"
        yield from _path_problems("--summary", path, source)
    yield from _duplicates([*options.outputs, *options.summaries])
    if options.has_thumbnails and not options.summaries:
        yield "--summary-thumbnails: requires --summary; add --summary summary.html"
    if options.has_thumbnails and source.kind is SourceKind.CAMERA:
        yield "--summary-thumbnails: images of a camera are never written; leave it out"


def _output_problems(path: Path, source: SourceKind) -> Iterator[str]:
    kind = kind_of(path)
    if kind is None:
        yield (
            f"--output: unknown file type (got {path}); name a .csv, .parquet or "
            f"{' '.join(VIDEO_FORMATS)} file, an image file, or a folder"
        )
    elif source not in SUITABLE.get(kind, tuple(SourceKind)):
        yield (
            f"--output: {kind.value} cannot be made of {source.value} "
            f"(got {path}); {REMEDIES[source]}"
        )


def _path_problems(option: str, path: Path, source: Source) -> Iterator[str]:
    folder = path.parent
    if not folder.is_dir():
        yield f"{option}: no such folder (got {folder}); create it with mkdir -p"
    elif not os.access(folder, os.W_OK):
        yield f"{option}: folder is not writable (got {folder}); name another one"
    elif path.is_dir() and option == "--summary":
        yield f"{option}: is a folder (got {path}); name a file"
    elif not source.is_live and _overwrites(path, Path(source.name)):
        yield f"{option}: would overwrite the source (got {path}); name another path"
    elif path.suffix.lower() == ".png" and _is_in(folder, source):
        yield f"{option}: would be an image of the source (got {path}); name another folder"


def _is_in(folder: Path, source: Source) -> bool:
    return source.kind is SourceKind.FOLDER and folder.samefile(source.name)


def _overwrites(path: Path, source: Path) -> bool:
    return any(target.exists() and target.samefile(source) for target in (path, path / source.name))


def _duplicates(paths: Sequence[Path]) -> Iterator[str]:
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            yield f"--output, --summary: file is named twice (got {path}); name it once"


class Outputs:
    """The sink that writes all files; they are complete once it is closed.

    A file that cannot be written ends the run. The others are completed all the same.
    """

    def __init__(self, outputs: list[Output]) -> None:
        self._outputs = outputs
        self._is_empty = True

    def __call__(self, result: FrameResult) -> None:
        """Write a result.

        Raises:
            OutputError: a file cannot be written.
        """
        self._is_empty = False
        for output in list(self._outputs):
            self._attempt(output, partial(output.write, result))

    def close(self) -> None:
        """Complete all files; a run without a single frame leaves none.

        Raises:
            OutputError: a file cannot be written; the first of them.
        """
        failures: list[OutputError] = []
        for output in list(self._outputs):
            try:
                self._attempt(output, output.discard if self._is_empty else output.close)
            except OutputError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _attempt(self, output: Output, call: Callable[[], None]) -> None:
        try:
            with write_errors(output.path):
                call()
        except BaseException:
            self._outputs.remove(output)
            output.discard()
            raise


def open_outputs(
    options: OutputOptions, source: Source, settings: Settings, resources: ExitStack
) -> list[Outputs]:
    """Prepare the outputs of a run; files are created with the first frame.

    Args:
        options: what to write.
        source: of what.
        settings: of the run.
        resources: completes the files when the run has ended.

    Returns:
        The sink, if there is anything to write.

    Raises:
        SettingsError: the options do not suit the source, the settings or each other.
    """
    check_options(options, source, is_repeated=settings.capture.loop)
    if not options:
        return []
    made = [_output(path, is_live=source.is_live) for path in options.outputs]
    outputs = Outputs([*made, *_summary(options, settings)])
    resources.callback(outputs.close)
    return [outputs]


def _output(path: Path, *, is_live: bool) -> Output:
    kind = kind_of(path)
    if kind is OutputKind.CSV:
        return CsvTable(path, is_live=is_live)
    if kind is OutputKind.PARQUET:
        return ParquetTable(path, is_live=is_live)
    try:
        if kind is OutputKind.VIDEO:
            from edge_daemon.output.video import AnnotatedVideo

            return AnnotatedVideo(path)
        from edge_daemon.output.drawing import AnnotatedImages

        return AnnotatedImages(path, is_folder=kind is OutputKind.FOLDER)
    except ImportError as error:
        raise SettingsError(
            f"--output: annotated copies require Pillow ({error}); "
            "pip install 'edge-daemon[output]'"
        ) from error


def _summary(options: OutputOptions, settings: Settings) -> list[Output]:
    if not options.summaries:
        return []
    if any(path.suffix.lower() == ".png" for path in options.summaries):
        try:
            import PIL  # noqa: F401  # the drawing imports it at the end of the run
        except ImportError as error:
            raise SettingsError(
                f"--summary: a .png file requires Pillow ({error}); "
                "pip install 'edge-daemon[output]'"
            ) from error
    from edge_daemon.output.summary import SummaryOutput

    name = without_password(settings.source)
    source = name if "://" in name else Path(name).name or name
    return [SummaryOutput(options.summaries, source, has_thumbnails=options.has_thumbnails)]
