"""The fleet as a table on a terminal, through rich: the only file that knows it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Final

from rich import box
from rich.bar import Bar
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from edge_daemon._lib.text import printable
from edge_daemon.commands.watch.consumer import BIN_S, MAX_BINS, Device, DeviceEvent, WatchTotals
from edge_daemon.errors import SettingsError
from edge_daemon.publishing.messages import Availability
from edge_daemon.records import EMOTIONS, EventKind, SourceState
from edge_daemon.schema import EventMessage, FaceMessage, HealthMessage

ROOMY: Final = 100
"""Width of a terminal from which on columns stand further apart."""

BAR_WIDTH: Final = 10

HEADER_LINES: Final = 4
"""Lines above the first device."""

MIN_EVENTS: Final = 3
MAX_NOTICES: Final = 4
MIN_ROWS: Final = 3
"""Lines of events, notices and devices on a terminal of any height."""

MIN_ROOM: Final = 12
"""Lines for devices and events, from which on the window has room for emotions."""

SHARE_WIDTH: Final = 16
"""Columns of an emotion's name and share."""

BARS: Final = " ▁▂▃▄▅▆▇█"

NOTHING: Final = "\N{EN DASH}"

COLOURS: Final = {
    "angry": "red",
    "disgust": "green",
    "fear": "magenta",
    "happy": "yellow",
    "sad": "blue",
    "surprise": "cyan",
    "neutral": "white",
}

SOURCES: Final = {
    SourceState.STARTING: ("starting", "yellow"),
    SourceState.RUNNING: ("online", "green"),
    SourceState.LOST: ("no camera", "red"),
    SourceState.PAUSED: ("paused", "yellow"),
}


@dataclass(frozen=True)
class Notice:
    """Something that the reader should know, and when it was noticed."""

    at: datetime
    text: str


@dataclass(frozen=True)
class _Figure:
    """A column of a device's figures, next to its first face."""

    header: str
    read: Callable[[Device], RenderableType]
    width: int
    from_width: int = 0
    """Of the terminal; on a narrower one it is left out."""


@dataclass(frozen=True)
class View:
    """All that the screen shows, at one moment."""

    title: str
    problem: str | None
    """Why nothing comes at present."""
    devices: Sequence[Device]
    events: Sequence[DeviceEvent]
    """In the order of arrival, as are the notices."""
    totals: WatchTotals
    notices: Sequence[Notice]
    at: datetime
    now: float
    """The same moment, on the clock of the devices' `faces_arrived`."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        notices = self.notices[-MAX_NOTICES:]
        room = options.max_height - HEADER_LINES - (2 + len(notices) if notices else 0)
        emotions = self._emotions(room)
        if self._has_totals:
            room -= 2 + len(emotions) + bool(emotions)
        # Events fill what the devices leave; a delayed event is sorted by its time.
        devices = sum(max(1, len(device.faces_now(self.now))) for device in self.devices)
        count = max(MIN_EVENTS, room - 2 - max(devices, MIN_ROWS))
        events = sorted(self.events, key=_event_time)[-count:]
        yield self._heading()
        yield Text()
        yield self._device_table(options.max_width, room - (2 + len(events) if events else 0))
        if self._has_totals:
            yield from (Text(), Rule(Text(self._totals()), style="dim", align="left"))
            if emotions:
                yield self._history(emotions, options.max_width)
        if events:
            yield from (Text(), Rule("events", style="dim", align="left"), _event_table(events))
        if notices:
            yield from (Text(), Rule("notices", style="dim", align="left"))
            yield from map(_notice_line, notices)

    def _heading(self) -> Table:
        online = sum(device.availability is Availability.ONLINE for device in self.devices)
        devices = "1 device" if len(self.devices) == 1 else f"{len(self.devices)} devices"
        heading = Text(no_wrap=True, overflow="ellipsis").append(self.title, style="bold")
        if self.problem is None:
            heading.append(f"  {devices}, {online} online", style="dim")
        else:
            heading.append(f"  no connection: {printable(self.problem)}", style="bold red")
        line = Table.grid(expand=True)
        line.add_column(ratio=1)
        line.add_row(heading, Text(_clock_time(self.at), style="dim"))
        return line

    @property
    def _has_totals(self) -> bool:
        return self.totals.visits > 0 or self.totals.total_s > 0

    def _emotions(self, room: int) -> list[str]:
        """The emotions that have a line: few of them in a low window."""
        if self.totals.total_s == 0:
            return []
        return self.totals.most_frequent(max(0, min(len(EMOTIONS), (room - MIN_ROOM) // 2)))

    def _totals(self) -> str:
        totals = self.totals
        visits = "1 visit" if totals.visits == 1 else f"{totals.visits} visits"
        return f"session: {visits}, {_duration(totals.total_s)} of faces"

    def _history(self, emotions: Sequence[str], width: int) -> Table:
        """An emotion's share, and how many faces had it over time, as a sparkline."""
        steps = max(1, min(MAX_BINS, width - SHARE_WIDTH))
        history = self.totals.history(self.now, steps)
        highest = max(value for name in emotions for value in history[name])
        table = Table.grid(padding=(0, 1, 0, 0))
        for name in emotions:
            share = f"{100 * self.totals.share(name):.0f} %"
            line = Text(sparkline(history[name], highest), style=COLOURS[name], no_wrap=True)
            table.add_row(Text(f"{name:<8}", style=COLOURS[name]), f"{share:>5}", line)
        table.add_row("", "", Text(f"the last {_duration(steps * BIN_S)}", style="dim"))
        return table

    def _device_table(self, width: int, height: int) -> Table:
        """A row for each face and for each device without one, as many as there is room for."""
        columns = [column for column in FIGURES if width >= column.from_width]
        table = _empty_table(columns, roomy=width >= ROOMY)
        for number, device in enumerate(self.devices):
            rows = list(self._rows(device, columns))
            if number and table.row_count + len(rows) >= max(MIN_ROWS, height):
                table.add_row("…", Text(f"{len(self.devices) - number} more", style="dim"))
                break
            for row in rows:
                table.add_row(*row)
        return table

    def _rows(
        self, device: Device, columns: Sequence[_Figure]
    ) -> Iterator[Sequence[RenderableType]]:
        faces = device.faces_now(self.now)
        no_face = _no_face(device, self.at)
        first, *others = [_face_cells(face) for face in faces] or [no_face]
        figures = [column.read(device) for column in columns]
        yield (device.name, _state(device), *first, *figures)
        for cells in others:
            yield ("", "", *cells)


def sparkline(values: Sequence[float], highest: float) -> str:
    """One character per value; blank for zero."""
    if highest <= 0:
        return " " * len(values)
    steps = (min(len(BARS) - 1, ceil(value / highest * (len(BARS) - 1))) for value in values)
    return "".join(BARS[step] for step in steps)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@contextmanager
def full_screen() -> Iterator[Callable[[View], None]]:
    """Take the terminal over; the function given shows one view after another.

    Raises:
        SettingsError: standard output is no terminal.
    """
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        raise SettingsError("watch: standard output is not a terminal; use --json for lines")
    # Refreshing by itself, rich would start a thread.
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield lambda view: live.update(view, refresh=True)


def _empty_table(figures: Sequence[_Figure], *, roomy: bool) -> Table:
    """Columns of fixed widths, so that they stay where they are; the device takes what is left."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, int(roomy), 0, 0))
    table.header_style = "dim"
    table.add_column("device", no_wrap=True, overflow="ellipsis", min_width=9, style="bold")
    table.add_column("state", no_wrap=True, width=9)
    table.add_column("face", justify="right", no_wrap=True, min_width=4)
    table.add_column("emotion", no_wrap=True, width=10)
    table.add_column("confidence", no_wrap=True, width=BAR_WIDTH)
    table.add_column("%", justify="right", no_wrap=True, width=3)
    for figure in figures:
        table.add_column(figure.header, justify="right", no_wrap=True, min_width=figure.width)
    return table


def _state(device: Device) -> Text:
    if device.availability is Availability.OFFLINE:
        word, colour = "offline", "bright_black"
    elif device.paused:
        word, colour = SOURCES[SourceState.PAUSED]
    elif device.health is not None:
        word, colour = SOURCES[device.health.source]
    elif device.availability is Availability.ONLINE:
        word, colour = SOURCES[SourceState.RUNNING]
    else:
        word, colour = "unknown", "bright_black"
    return Text(word, style=colour)


def _face_cells(face: FaceMessage) -> tuple[RenderableType, ...]:
    track = f"#{face.track_id}"
    if face.emotion is None or face.confidence is None:
        why = "unscored" if face.unscored is None else face.unscored.replace("_", " ")
        return track, Text(why, style="dim italic"), "", ""
    colour = COLOURS.get(face.emotion, "default")
    emotion = printable(face.emotion) + (" ?" if face.uncertain else "")
    return (
        track,
        Text(emotion, style=f"dim {colour}" if face.uncertain else colour),
        Bar(1.0, 0.0, face.confidence, width=BAR_WIDTH, color=colour),
        f"{100 * face.confidence:.0f}",
    )


def _no_face(device: Device, at: datetime) -> tuple[RenderableType, ...]:
    """The cells of a device without a face."""
    last = device.last_message_time
    if device.availability is not Availability.OFFLINE or last is None:
        return "", Text(NOTHING, style="dim"), "", ""
    today = _local(last).date() == _local(at).date()
    when = _clock_time(last) if today else f"{_local(last):%Y-%m-%d}"
    return "", Text("last seen", style="dim"), Text(when, style="dim"), ""


def _latency(device: Device) -> str:
    if device.faces is None or device.availability is Availability.OFFLINE:
        return ""
    return f"{device.faces.latency_ms:.0f} ms"


def _of_health(
    read: Callable[[HealthMessage], RenderableType],
) -> Callable[[Device], RenderableType]:
    """A figure from the health of a device that is there."""

    def figure(device: Device) -> RenderableType:
        health = None if device.availability is Availability.OFFLINE else device.health
        return "" if health is None else read(health)

    return figure


def _p95(health: HealthMessage) -> str:
    return "" if health.latency_ms is None else f"{health.latency_ms.p95:.0f} ms"


def _temperature(health: HealthMessage) -> Text:
    degrees = health.cpu_temperature_c
    text = "" if degrees is None else f"{degrees:.0f}"
    return Text(text, style="bold red" if health.throttled else "")


def _queue_depth(health: HealthMessage) -> Text:
    alarming = health.event_queue.dropped or not health.event_queue.durable
    return Text(str(health.event_queue.depth), style="bold red" if alarming else "")


def _uptime(health: HealthMessage) -> str:
    minutes = int(health.uptime_s) // 60
    hours, days = minutes // 60, minutes // 1440
    return f"{days} d" if days else f"{hours} h" if hours else f"{minutes} min"


FIGURES: Final = (
    _Figure("latency", _latency, 7),
    _Figure("p95", _of_health(_p95), 7, from_width=100),
    _Figure("fps", _of_health(lambda health: f"{health.fps_out:.1f}"), 4),
    _Figure("°C", _of_health(_temperature), 2),
    _Figure("queue", _of_health(_queue_depth), 5),
    _Figure("missing", lambda device: str(device.missing or ""), 7, from_width=110),
    _Figure("rejected", lambda device: str(device.refused or ""), 8, from_width=120),
    _Figure("up", _of_health(_uptime), 6, from_width=130),
    _Figure("version", _of_health(lambda health: printable(health.version)), 7, from_width=140),
)


def _event_time(device_event: DeviceEvent) -> datetime:
    return device_event.event.time


def _event_table(events: Sequence[DeviceEvent]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for style in ("dim", "bold", "", "", ""):
        table.add_column(style=style, no_wrap=True)
    for device_event in events:
        event = device_event.event
        table.add_row(
            _clock_time(event.time), device_event.device, f"#{event.track_id}", *_event_cells(event)
        )
    return table


def _event_cells(event: EventMessage) -> tuple[str, Text]:
    """What happened, and with which emotion."""
    emotion = Text(event.emotion or NOTHING, style=COLOURS.get(event.emotion or "", "default"))
    match event.kind:
        case EventKind.APPEARED:
            return "appeared", emotion
        case EventKind.EMOTION_CHANGED:
            return "changed", Text(f"{event.previous or NOTHING} → ").append(emotion)
        case EventKind.LEFT:
            return "left", Text(f"after {event.duration:.0f} s, last ").append(emotion)


def _notice_line(notice: Notice) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis").append(_clock_time(notice.at), style="dim")
    return line.append(f"  {printable(notice.text)}", style="yellow")


def _clock_time(time: datetime) -> str:
    return f"{_local(time):%H:%M:%S}"


def _local(time: datetime) -> datetime:
    """The time in the local time zone; at the ends of the calendar, that of the message."""
    try:
        return time.astimezone()
    except OverflowError:
        return time
