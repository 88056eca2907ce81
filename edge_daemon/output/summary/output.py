"""Writes the summary when the run has ended."""

from collections.abc import Sequence
from pathlib import Path

from edge_daemon.output.base import replace_file, write_errors
from edge_daemon.output.summary.chart import chart
from edge_daemon.output.summary.page import page
from edge_daemon.output.summary.visits import Collector
from edge_daemon.records import FrameResult


class SummaryOutput:
    """The page, and the chart alone as a PNG.

    Args:
        paths: `.html` and `.png` files.
        source: the source's name, as it can be shown.
        has_thumbnails: whether to show each face.
    """

    def __init__(self, paths: Sequence[Path], source: str, *, has_thumbnails: bool) -> None:
        self.path = paths[0]
        self._paths = paths
        self._collector = Collector(source, has_thumbnails)

    def write(self, result: FrameResult) -> None:
        self._collector.add(result)

    def close(self) -> None:
        statistics = self._collector.statistics()
        for path in self._paths:
            with write_errors(path):
                if path.suffix.lower() == ".png":
                    content = chart(statistics).as_png()
                else:
                    content = page(statistics).encode()
                replace_file(path, content)

    def discard(self) -> None:
        """Each file is complete already."""
