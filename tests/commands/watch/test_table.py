import io
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from payloads import BASE, NOON, event, faces, health, message, scored, state, unscored
from rich.console import Console
from rich.screen import Screen

from edge_daemon.commands.watch.consumer import Consumer
from edge_daemon.commands.watch.table import MIN_EVENTS, Notice, View, full_screen
from edge_daemon.errors import SettingsError
from edge_daemon.publishing.subscription import MAX_DEVICES
from edge_daemon.records import EMOTIONS, EventKind, SourceState

Draw = Callable[..., list[str]]


@pytest.fixture
def fleet() -> Consumer:
    return Consumer(BASE, lambda _: None)


@pytest.fixture
def draw(fleet: Consumer) -> Draw:
    """A function that renders the screen at a width and height, and returns its lines."""

    def lines(
        width: int = 80,
        height: int = 40,
        problem: str | None = None,
        notices: tuple[Notice, ...] = (),
        now: float = 0.0,
    ) -> list[str]:
        view = View(
            title="edge-daemon at broker.local",
            problem=problem,
            devices=list(fleet.devices.values()),
            events=list(fleet.events),
            totals=fleet.totals,
            notices=notices,
            at=NOON,
            now=now,
        )
        console = Console(width=width, height=height, record=True, file=io.StringIO())
        console.print(Screen(view))
        text = console.export_text().splitlines()
        assert all(len(line) <= width for line in text)
        return [line.rstrip() for line in text]

    return lines


def put(fleet: Consumer, device: str, **contents: object) -> None:
    fleet.take(message(device, "availability", b"online"), 0.0)
    for kind, content in contents.items():
        fleet.take(message(device, kind, content), 0.0)


def row(lines: list[str], device: str) -> str:
    (found,) = (line for line in lines if line.startswith(device))
    return " ".join(found.split())


def test_table_row_has_state_face_emotion_and_figures(fleet: Consumer, draw: Draw) -> None:
    put(fleet, "hall", health=health(waiting=4), faces=faces(scored(12, "happy", 0.87)))
    assert row(draw(), "hall") == "hall online #12 happy ████████▋ 87 43 ms 14.8 61 4"


def test_table_faces_have_a_line_each_and_uncertain_a_mark(fleet: Consumer, draw: Draw) -> None:
    shy = scored(13, "neutral", 0.38, uncertain=True)
    put(fleet, "hall", faces=faces(scored(12, "happy", 0.87), shy, unscored(14)))
    lines = draw()
    first = lines.index(next(line for line in lines if "#12" in line))
    assert re.search(r"#13 neutral \?\s+█+.\s+38", lines[first + 1])
    assert re.search(r"#14 too small$", lines[first + 2])


@pytest.mark.parametrize(
    ("source", "label"),
    [
        (SourceState.RUNNING, "online"),
        (SourceState.LOST, "no camera"),
        (SourceState.PAUSED, "paused"),
        (SourceState.STARTING, "starting"),
    ],
)
def test_table_state_is_the_state_of_the_source(
    fleet: Consumer, draw: Draw, source: SourceState, label: str
) -> None:
    put(fleet, "hall", health=health(source))
    assert row(draw(), "hall").startswith(f"hall {label} ")


@pytest.mark.parametrize(
    ("age", "last_seen"),
    [(timedelta(minutes=3), r"\d\d:57:00"), (timedelta(days=3), "2026-11-21")],
)
def test_table_offline_device_has_its_last_seen_time(
    fleet: Consumer, draw: Draw, age: timedelta, last_seen: str
) -> None:
    put(fleet, "hall", health=health(at=NOON - age), faces=faces(at=NOON - age))
    fleet.take(message("hall", "availability", b"offline"), 0.0)
    assert re.fullmatch(f"hall offline last seen {last_seen}", row(draw(), "hall"))


def test_table_events_describe_each_kind(fleet: Consumer, draw: Draw) -> None:
    for one in (
        event(1, track_id=12),
        event(2, EventKind.EMOTION_CHANGED, track_id=12, emotion="sad", previous="happy"),
        event(3, EventKind.LEFT, track_id=12, emotion="sad", duration=73.4),
    ):
        fleet.take(message("hall", "event", one), 0.0)
    lines = [" ".join(line.split()[1:]) for line in draw()]
    assert lines[lines.index("hall #12 appeared happy") :][:3] == [
        "hall #12 appeared happy",
        "hall #12 changed happy → sad",
        "hall #12 left after 73 s, last sad",
    ]


@pytest.mark.parametrize("height", [12, 24, 40])
def test_table_latest_events_fill_the_window(fleet: Consumer, draw: Draw, height: int) -> None:
    for number in range(1, 60):
        fleet.take(message("hall", "event", event(number, track_id=number)), 0.0)
    lines = draw(height=height)
    numbers = [int(number) for number in re.findall(r"#(\d+)", "\n".join(lines))]
    assert numbers == list(range(60 - len(numbers), 60))
    assert len(numbers) >= max(MIN_EVENTS, height - 11)
    assert len(lines) <= height


def test_table_delayed_event_has_its_place_by_time(fleet: Consumer, draw: Draw) -> None:
    for device, number, minutes in (
        ("hall", 1, 3),
        ("porch", 2, 1),
        ("hall", 3, 5),
        ("gate", 4, 2),
    ):
        at = NOON + timedelta(minutes=minutes)
        fleet.take(message(device, "event", event(number, track_id=number, at=at)), 0.0)
    assert re.findall(r"#(\d)", "\n".join(draw())) == ["2", "4", "1", "3"]


def see(fleet: Consumer, *messages: tuple[float, str], device: str = "hall") -> None:
    """Let messages with one face arrive: the time, and the emotion."""
    for now, emotion in messages:
        fleet.take(message(device, "faces", faces(scored(1, emotion, 0.8))), now)


def history(lines: list[str]) -> dict[str, tuple[str, str]]:
    """The share and the sparkline of each emotion."""
    found = (re.match(r"(\w+) +(\d+ %) ?(.*)", line) for line in lines)
    return {match[1]: (match[2], match[3]) for match in found if match}


def test_table_session_has_visits_and_shares(fleet: Consumer, draw: Draw) -> None:
    fleet.take(message("hall", "event", event(1)), 0.0)
    fleet.take(message("hall", "event", event(2, EventKind.LEFT)), 0.0)
    see(fleet, *((step * 0.5, "happy" if step < 6 else "sad") for step in range(9)))
    lines = draw(now=4.0)
    assert any(line.startswith("session: 1 visit, 4 s of faces ─") for line in lines)
    shares = {name: share for name, (share, _) in history(lines).items()}
    assert shares == dict.fromkeys(EMOTIONS, "0 %") | {"happy": "75 %", "sad": "25 %"}


def test_table_sparkline_follows_the_time(fleet: Consumer, draw: Draw) -> None:
    see(fleet, *((step * 0.5, "happy") for step in range(11)))  # 0 to 5 s, and one more
    fleet.take(message("hall", "faces", faces()), 15.0)
    see(fleet, *((15 + step * 0.5, "sad") for step in range(6)))  # 15 to 17.5 s
    lines = history(draw(now=17.5))
    assert lines["happy"][1].strip() == "█▂"
    assert lines["sad"][1].strip() == "▄"
    assert len(lines["sad"][1]) == len(lines["happy"][1]) + 2
    later = history(draw(now=22.5))
    assert len(later["sad"][1]) == len(lines["sad"][1]) - 1


def test_table_message_after_silence_counts_for_a_second(fleet: Consumer, draw: Draw) -> None:
    see(fleet, (0.0, "happy"), (1.0, "happy"), (60.0, "happy"))
    assert any("2 s of faces" in line for line in draw(now=60.0))


def test_table_time_while_paused_does_not_count(fleet: Consumer, draw: Draw) -> None:
    see(fleet, (0.0, "happy"), (1.0, "happy"))
    for at, paused in ((2.0, True), (59.0, False)):
        fleet.take(message("hall", "state", state(paused=paused)), at)
    see(fleet, (60.0, "happy"))
    # The last message before the pause counts as long as the one before it.
    assert any("2 s of faces" in line for line in draw(now=60.0))


@pytest.mark.parametrize(("height", "count"), [(12, 0), (24, 4), (40, 7)])
def test_table_emotions_fit_the_height(
    fleet: Consumer, draw: Draw, height: int, count: int
) -> None:
    put(fleet, "hall", event=event(1))
    see(fleet, *((step * 0.5, "surprise") for step in range(9)))
    lines = draw(height=height, now=4.0)
    assert len(history(lines)) == count
    assert count == 0 or "surprise" in history(lines)
    assert any("appeared" in line for line in lines)
    assert len(lines) <= height


def test_table_has_lost_connection_and_notices(draw: Draw) -> None:
    lines = draw(problem="Connection refused", notices=(Notice(NOON, "hall: \x1b[2Jgone"),))
    assert "no connection: Connection refused" in lines[0]
    assert any("hall: �[2Jgone" in line for line in lines)


def test_table_many_devices_fit_with_a_count_of_the_rest(fleet: Consumer, draw: Draw) -> None:
    for number in range(MAX_DEVICES):
        put(fleet, f"device-{number:03}", faces=faces(scored(1, "happy", 0.5)))
    put(fleet, "device-000", event=event(1))
    lines = draw(height=24)
    count = sum(line.startswith("device-") for line in lines)
    assert count >= 10
    (rest,) = (line for line in lines if line.startswith("…"))
    assert rest.split()[1:] == [str(MAX_DEVICES - count), "more"]
    assert any("appeared" in line for line in lines)
    assert len(lines) <= 24


def test_table_escapes_control_characters_of_a_device(fleet: Consumer, draw: Draw) -> None:
    put(fleet, "hall", health=health(version="\x1b[2J"))
    assert "�[2J" in row(draw(width=160), "hall")


def test_table_wide_terminal_has_more_columns(fleet: Consumer, draw: Draw) -> None:
    put(fleet, "hall", health=health(), event=event(1))
    put(fleet, "hall", event=event(4), faces=b"{")
    assert "version" not in "".join(draw())
    lines = draw(width=160)
    assert row(lines, "device").split()[6:] == [
        *("latency", "p95", "fps", "°C", "queue", "missing", "rejected", "up", "version")
    ]
    assert row(lines, "hall").endswith("71 ms 14.8 61 0 2 1 1 d 0.1.0")


def test_table_without_terminal_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="--json"), full_screen():
        pass
    assert capsys.readouterr().out == ""
