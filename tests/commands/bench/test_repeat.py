from pathlib import Path

import pytest

from edge_daemon.capture import Picture, source_from
from edge_daemon.commands.bench.repeat import Repeated
from edge_daemon.errors import SettingsError


def pictures(source: Repeated) -> list[Picture]:
    reader = source.open()
    read = list(iter(reader.read, None))
    reader.close()
    return read


def test_without_a_number_a_source_is_read_once(drawn_clip: Path) -> None:
    assert len(pictures(Repeated(source_from(str(drawn_clip)), None))) == 12


@pytest.mark.parametrize("frames", [5, 12, 30])
def test_source_is_cut_or_repeated_to_the_number(drawn_clip: Path, frames: int) -> None:
    read = pictures(Repeated(source_from(str(drawn_clip)), frames))
    assert len(read) == frames
    assert [picture.scene for picture in read] == [number // 12 for number in range(frames)]
    times = [picture.stream_time or 0.0 for picture in read]
    assert times == sorted(times)
    assert (read[0].bgr == read[12 * ((frames - 1) // 12)].bgr).all()


def test_live_source_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"/dev/video7 is live"):
        Repeated(source_from("7"), None)
