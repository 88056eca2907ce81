"""The summary as one HTML page, without external parts."""

import base64
from collections.abc import Iterator
from html import escape
from importlib import resources
from string import Template
from typing import Final

from edge_daemon.output.summary.chart import chart, clock_time
from edge_daemon.output.summary.visits import Statistics, Visit

MAX_ROWS: Final = 1000
"""Visits in the table."""

MAX_MOODS: Final = 3
"""Shares of a visit's moods in the table."""


def page(statistics: Statistics) -> str:
    """Write the page: the chart, and a table of the visits."""
    template = resources.files(__package__).joinpath("page.html").read_text("utf-8")
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
        cells = [escape(visit.file or ""), face, visit.mood]
    else:
        moods = (f"{mood} {100 * part:.0f} %" for mood, part in visit.shares.items())
        times = map(clock_time, (visit.start, visit.end, visit.duration))
        cells = [face, *times, ", ".join(list(moods)[:MAX_MOODS])]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _notes(statistics: Statistics) -> Iterator[str]:
    if (hidden := len(statistics.visits) - MAX_ROWS) > 0:
        yield f"{hidden} more are not listed."
    if not statistics.visits:
        yield "No face was found."
    if statistics.brief:
        yield f"{statistics.brief} faces left before events.appear_after and are not counted."
    yield (
        "“uncertain” is a confidence below smoothing.uncertain_below; “not scored” is a face "
        "that is too small, too blurred or turned away. The same person counts again after a "
        "longer absence: faces are followed, never identified."
    )
