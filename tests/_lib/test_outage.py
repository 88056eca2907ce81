from conftest import FakeClock

from edge_daemon._lib.clock import Outage


def test_trouble_is_news_once_and_its_end_too(clock: FakeClock) -> None:
    episode = Outage(clock)
    for _ in range(2):
        assert episode.end() is None
        assert [episode.begin(), episode.begin()] == [True, False]
        assert episode.is_active
        clock.seconds += 1.25
        assert episode.end() == 1.2
        assert not episode.is_active
