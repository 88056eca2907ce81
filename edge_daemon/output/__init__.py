"""Opens the outputs of a run, and passes results to all of them."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from edge_daemon._lib.text import without_password
from edge_daemon.capture import Source
from edge_daemon.config.settings import Settings
from edge_daemon.errors import OutputError, SettingsError
from edge_daemon.output.base import (
    Output,
    OutputKind,
    OutputOptions,
    check_options,
    kind_of,
    write_errors,
)
from edge_daemon.output.table import CsvTable, ParquetTable
from edge_daemon.records import FrameResult


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
