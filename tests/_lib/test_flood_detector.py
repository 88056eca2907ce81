from conftest import FakeClock

from edge_daemon._lib.clock import FLOOD_INTERVAL_S, FloodDetector


def test_flood_detector_counts_messages_of_an_interval(clock: FakeClock) -> None:
    detector = FloodDetector(clock, max_messages=5)
    assert not any(detector.count() for _ in range(5))
    assert detector.count()
    clock.seconds += FLOOD_INTERVAL_S + 1
    assert not detector.count()
