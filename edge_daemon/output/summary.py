"""The summary of a run: one HTML page without external parts, or a chart."""

import base64
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from edge_daemon._lib.text import encodable
from edge_daemon.output.base import replace_file, write_errors
from edge_daemon.output.chart import chart, duration_text
from edge_daemon.output.visits import Collector, Statistics, Visit
from edge_daemon.records import FrameResult

MAX_ROWS: Final = 1000
"""Visits in the table."""

MAX_LABELS: Final = 3
"""Shares of a visit's labels in the table."""


def page(statistics: Statistics) -> str:
    """Write the page: the chart, and a table of the visits."""
    template = resources.files(__package__).joinpath("summary.html").read_text("utf-8")
    title = f"Emotions in {statistics.source}"
    return Template(template).substitute(
        title=escape(title),
        chart=chart(statistics).as_svg(title),
        heading="Faces" if statistics.is_images else "Visits",
        columns="".join(f"<th>{name}</th>" for name in _columns(statistics)),
        rows="\n".join(_row(visit, statistics) for visit in statistics.visits[:MAX_ROWS]),
        note=" ".join(_notes(statistics)),
    )


def _columns(statistics: Statistics) -> Iterator[str]:
    if statistics.is_images:
        yield "Image"
    yield "Face"
    if not statistics.is_images:
        yield from ("From", "To", "Length")
    yield "Emotion"


def _row(visit: Visit, statistics: Statistics) -> str:
    face = str(visit.track_id)
    if visit.thumbnail is not None:
        address = "data:image/jpeg;base64," + base64.b64encode(visit.thumbnail).decode()
        face = f'<img src="{address}" alt="face {visit.track_id}">{face}'
    if statistics.is_images:
        cells = [escape(encodable(visit.file or "")), face, visit.main_label]
    else:
        labels = (f"{label} {100 * part:.0f} %" for label, part in visit.shares.items())
        times = map(duration_text, (visit.start, visit.end, visit.duration))
        cells = [face, *times, ", ".join(list(labels)[:MAX_LABELS])]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _notes(statistics: Statistics) -> Iterator[str]:
    if (hidden := len(statistics.visits) - MAX_ROWS) > 0:
        yield f"{hidden} more are not listed."
    if statistics.earlier.visits:
        yield f"{statistics.earlier.visits} earlier ones count in the figures and shares only."
    if not statistics.visits:
        yield "No face was found."
    if statistics.brief:
        yield f"{statistics.brief} faces left before events.appear_after and are not counted."
    yield (
        "“uncertain” is a confidence below smoothing.uncertain_below; “not scored” is a face "
        "that is too small, too blurred or turned away. The same person counts again after a "
        "longer absence: faces are followed, never identified."
    )


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
        self._collector = Collector(source, has_thumbnails=has_thumbnails)

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
