import io

import pytest
from conftest import FakeClock

from edge_daemon._lib.terminal import DEFAULT_COLUMNS, ERASE, INTERVAL_S, ProgressLine


@pytest.fixture
def terminal() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def line(terminal: io.StringIO, clock: FakeClock) -> ProgressLine:
    return ProgressLine(terminal, "frames", clock)


def drawn(terminal: io.StringIO) -> list[str]:
    return terminal.getvalue().split(ERASE)[1:]


def test_line_shows_part_speed_and_remaining_time(
    line: ProgressLine, terminal: io.StringIO, clock: FakeClock
) -> None:
    clock.seconds += 10
    line.update(50, 0.25)
    (text,) = drawn(terminal)
    assert text.startswith(" 25 % [")
    assert text.count("#") / (text.count("#") + text.count("-")) == pytest.approx(0.25, abs=0.02)
    assert "50 frames, 5.0/s, ETA 0:30" in text


def test_line_of_unknown_total_shows_the_speed(
    line: ProgressLine, terminal: io.StringIO, clock: FakeClock
) -> None:
    clock.seconds += 10
    line.update(50, None)
    assert drawn(terminal) == ["50 frames, 5.0/s"]


def test_line_is_drawn_once_per_interval(
    line: ProgressLine, terminal: io.StringIO, clock: FakeClock
) -> None:
    for count in range(10):
        line.update(count, count / 10)
        clock.seconds += INTERVAL_S / 5
    assert len(drawn(terminal)) == 2


def test_line_fits_into_the_terminal(
    line: ProgressLine, terminal: io.StringIO, clock: FakeClock
) -> None:
    clock.seconds += 1e6
    line.update(10**12, 0.01)
    assert len(drawn(terminal)[0]) < DEFAULT_COLUMNS


def test_closed_line_is_erased(line: ProgressLine, terminal: io.StringIO) -> None:
    line.update(1, 0.5)
    line.close()
    assert terminal.getvalue().endswith(ERASE)


def test_line_on_a_closed_terminal_is_ignored(line: ProgressLine, terminal: io.StringIO) -> None:
    terminal.close()
    line.update(1, 0.5)
    line.close()
