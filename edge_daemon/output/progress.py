"""The progress of a run over files."""

import sys
from contextlib import ExitStack
from pathlib import Path

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.terminal import ProgressLine, can_show_progress
from edge_daemon.capture import Source, SourceKind
from edge_daemon.capture.images import list_folder
from edge_daemon.config.settings import Settings
from edge_daemon.pipeline import Sink
from edge_daemon.records import FrameResult


def run_progress(
    source: Source, settings: Settings, resources: ExitStack, clock: Clock
) -> list[Sink[FrameResult]]:
    """The sink that shows the progress of `run`, if it reads a file to its end."""
    if settings.capture.loop:
        return []
    return frame_progress(source, resources, clock, prints_results=settings.sink == "jsonl")


def frame_progress(
    source: Source,
    resources: ExitStack,
    clock: Clock,
    *,
    prints_results: bool,
    frames: int | None = None,
) -> list[Sink[FrameResult]]:
    """A sink that shows the progress on a terminal.

    Args:
        source: what is read.
        resources: removes the line at the end.
        clock: the clock to use.
        prints_results: whether standard output shows results at the same time.
        frames: how many frames to expect; None for one pass over the source.

    Returns:
        The sink, unless there is no terminal to show it on, or the source has no end.
    """
    if source.is_live or not can_show_progress(prints_results=prints_results):
        return []
    line = ProgressLine(sys.stderr, "frames", clock)
    resources.callback(line.close)
    if frames is None and source.kind is SourceKind.FOLDER:
        frames = len(list_folder(Path(source.name)).images)
    duration_s = _duration_of(Path(source.name)) if frames is None else None
    return [FrameProgress(line, frames, duration_s)]


class FrameProgress:
    """The sink that shows which part of all frames is done.

    Args:
        line: shows it.
        frames: the number of all frames; None if unknown.
        duration_s: seconds of the video, which count instead; None if unknown.
    """

    def __init__(self, line: ProgressLine, frames: int | None, duration_s: float | None) -> None:
        self._line = line
        self._frames = frames
        self._duration_s = duration_s
        self._count = 0

    def __call__(self, result: FrameResult) -> None:
        self._count += 1
        self._line.update(self._count, self._fraction(result.frame.position_s))

    def _fraction(self, position_s: float | None) -> float | None:
        if self._frames:
            return self._count / self._frames
        if self._duration_s and position_s is not None:
            return position_s / self._duration_s
        return None


def _duration_of(path: Path) -> float | None:
    """Seconds of a video, as far as its container states them."""
    from av.error import FFmpegError

    from edge_daemon.capture.video_decoding import NoVideo, VideoDecoder, open_container

    try:
        with open_container(f"file:{path}") as container:
            return VideoDecoder(container).duration_s
    except (FFmpegError, NoVideo, OSError):  # the capture reports it
        return None
