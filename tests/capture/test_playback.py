from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeClock
from drawing import draw_scene, write_clip

from edge_daemon.capture import CapturedFrame, SourceKind, create_source
from edge_daemon.capture.base import SourceIncomplete, SupportsSchedule
from edge_daemon.capture.wrappers import Playback, PlaybackReader, Repeated
from edge_daemon.errors import SourceError

LENGTH = 4
INTERVAL = 0.1


class Film:
    """A source of which each picture's value is its number, and its time that of the film."""

    name = "film"
    kind = SourceKind.VIDEO
    is_live = False
    error: SourceIncomplete | None = None
    """Raised at the end of each round."""

    def __init__(self, times: Sequence[float]) -> None:
        self.readers: list[FilmReader] = []
        self._times = times

    def open(self) -> "FilmReader":
        assert all(reader.closed for reader in self.readers)
        self.readers.append(FilmReader(self._times, self.error))
        return self.readers[-1]


class FilmReader:
    def __init__(self, times: Sequence[float], error: SourceIncomplete | None) -> None:
        self.closed = False
        self._error = error
        self._pictures = (
            CapturedFrame(np.full((2, 2, 3), number, np.uint8), time, scene=number, position_s=time)
            for number, time in enumerate(times)
        )

    def read(self) -> CapturedFrame | None:
        picture = next(self._pictures, None)
        if picture is None and self._error is not None:
            raise self._error
        return picture

    def close(self) -> None:
        self.closed = True


class Player:
    """Reads a looped film as the capture loop does, with a clock that runs while it waits."""

    def __init__(self, film: Film, clock: FakeClock) -> None:
        self.reader: PlaybackReader = Playback(film, clock).open()
        self._clock = clock
        self.close = self.reader.close

    def read(self) -> CapturedFrame:
        self._clock.seconds += self.reader.prepare()
        return self.reader.read()


def opened(film: Film, clock: FakeClock) -> Player:
    return Player(film, clock)


def film_of(length: int) -> Film:
    return Film([number * INTERVAL for number in range(length)])


def number_of(picture: CapturedFrame) -> int:
    return int(picture.bgr[0, 0, 0])


def test_frames_come_at_the_films_rate_and_start_again(clock: FakeClock) -> None:
    film = film_of(LENGTH)
    reader = opened(film, clock)
    begun = clock.monotonic()
    played = [(number_of(reader.read()), clock.monotonic() - begun) for _ in range(10)]
    assert [number for number, _ in played] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [at for _, at in played] == pytest.approx([INTERVAL * step for step in range(10)])
    reader.close()
    assert [one.closed for one in film.readers] == [True, True, True]


def test_looped_reader_between_distant_frames_does_not_wait(clock: FakeClock) -> None:
    reader = Playback(Film([0.0, 90.0]), clock).open()
    assert isinstance(reader, SupportsSchedule)
    assert number_of(reader.read()) == 0
    assert reader.prepare() == reader.prepare() == pytest.approx(90.0)
    clock.seconds += 30.0
    assert reader.prepare() == pytest.approx(60.0)
    assert number_of(reader.read()) == 1


def test_pictures_whose_time_went_by_are_left_out(clock: FakeClock) -> None:
    reader = opened(film_of(LENGTH), clock)
    assert number_of(reader.read()) == 0
    clock.seconds += 2.5 * INTERVAL
    assert number_of(reader.read()) == 3


def test_long_arrears_are_given_up(clock: FakeClock) -> None:
    reader = opened(film_of(LENGTH), clock)
    reader.read()
    clock.seconds += 3600
    started = clock.monotonic()
    assert number_of(reader.read()) == 1
    assert number_of(reader.read()) == 2
    assert clock.monotonic() - started == pytest.approx(INTERVAL)


def test_single_image_repeats_at_every_read(clock: FakeClock) -> None:
    reader = opened(Film([0.0]), clock)
    started = clock.monotonic()
    for _ in range(3):
        clock.seconds += 0.01
        assert number_of(reader.read()) == 0
    assert clock.monotonic() - started == pytest.approx(0.03)


def test_pictures_are_of_now_and_keep_their_scenes(clock: FakeClock) -> None:
    reader = opened(film_of(2), clock)
    pictures = [reader.read() for _ in range(3)]
    assert [picture.stream_time_s for picture in pictures] == [None] * 3
    assert [picture.scene for picture in pictures] == [0, 1, 0]


def test_looped_video_keeps_positions(clock: FakeClock) -> None:
    reader = opened(film_of(2), clock)
    pictures = [reader.read() for _ in range(3)]
    assert [picture.position_s for picture in pictures] == [0.0, INTERVAL, 0.0]


def test_film_without_frames_in_its_second_round_is_an_error(clock: FakeClock) -> None:
    film = film_of(1)
    reader = opened(film, clock)
    reader.read()
    film._times = []
    with pytest.raises(SourceError, match="film: has no frame"):
        reader.read()


def test_clip_goes_on_after_its_end(tmp_path: Path, clock: FakeClock) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [draw_scene((step, 60, 120)) for step in range(3)])
    source = Playback(create_source(str(clip)), clock)
    assert source.is_live
    assert source.name == str(clip)
    reader = source.open()
    first, *_, again = [reader.read() for _ in range(4)]
    reader.close()
    assert np.array_equal(first.bgr, again.bgr)


def test_incomplete_file_repeats_and_is_logged_once(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    film = film_of(2)
    film.error = SourceIncomplete("film: truncated")
    reader = opened(film, clock)
    assert [number_of(reader.read()) for _ in range(5)] == [0, 1, 0, 1, 0]
    assert [vars(record)["error"] for record in caplog.records] == ["film: truncated"]


def test_incomplete_file_without_frames_is_an_error(clock: FakeClock) -> None:
    film = film_of(0)
    film.error = SourceIncomplete("film: truncated")
    with pytest.raises(SourceIncomplete):
        opened(film, clock).read()


@pytest.mark.parametrize("frames", [5, 12, 30])
def test_repeated_source_gives_a_number_of_frames(drawn_clip: Path, frames: int) -> None:
    reader = Repeated(create_source(str(drawn_clip)), frames).open()
    read = list(iter(reader.read, None))
    reader.close()
    assert [picture.scene for picture in read] == [number // 12 for number in range(frames)]
    assert [picture.stream_time_s for picture in read] == pytest.approx(np.arange(frames) / 10)
    assert (read[0].bgr == read[12 * ((frames - 1) // 12)].bgr).all()
