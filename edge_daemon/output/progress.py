"""The progress of a run over files."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.terminal import ProgressLine, can_show_progress
from edge_daemon.capture import Source, SourceKind
from edge_daemon.capture.images import list_folder
from edge_daemon.config.settings import Settings
from edge_daemon.pipeline import Sink
from edge_daemon.records import Frame, FrameResult

Fraction = Callable[[Frame, int], float | None]
"""The part of all frames that is done with this frame, which is the n-th; None if unknown."""


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
    part_of = _by_count(frames) if frames else _part_of(source)
    count = 0

    def show(result: FrameResult) -> None:
        nonlocal count
        count += 1
        line.update(count, part_of(result.frame, count))

    return [show]


def _part_of(source: Source) -> Fraction:
    if source.kind is SourceKind.FOLDER:
        return _by_count(len(list_folder(Path(source.name)).images))
    duration_s = _duration_of(Path(source.name))
    return lambda frame, _: (
        frame.position_s / duration_s if duration_s and frame.position_s is not None else None
    )


def _by_count(total: int) -> Fraction:
    return lambda _, count: count / total if total else None


def _duration_of(path: Path) -> float | None:
    """Seconds of a video, as far as its container states them."""
    from av.error import FFmpegError

    from edge_daemon.capture.video_decoding import NoVideo, VideoDecoder, open_container

    try:
        with open_container(f"file:{path}") as container:
            return VideoDecoder(container).duration_s
    except (FFmpegError, NoVideo, OSError):  # the capture reports it
        return None
