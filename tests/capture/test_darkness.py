import numpy as np
import pytest
from conftest import FakeClock
from drawing import draw_scene

from edge_daemon.capture.darkness import Darkness

BRIGHT = draw_scene()
BLACK = np.zeros_like(BRIGHT)


@pytest.fixture
def darkness(clock: FakeClock) -> Darkness:
    return Darkness("porch", clock)


def show(darkness: Darkness, clock: FakeClock, picture: np.ndarray, seconds: int) -> None:
    for _ in range(10 * seconds):
        darkness.look(picture)
        clock.seconds += 0.1


def test_darkness_is_told_once_after_a_minute_and_so_is_its_end(
    darkness: Darkness, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    show(darkness, clock, BRIGHT, 100)
    show(darkness, clock, BLACK, 59)
    assert caplog.messages == []
    show(darkness, clock, BLACK, 500)
    assert caplog.messages == ["the picture is dark; is the lens covered?"]
    show(darkness, clock, BRIGHT, 100)
    assert caplog.messages[1:] == ["the picture is bright again"]


def test_light_that_is_out_for_moments_is_no_news(
    darkness: Darkness, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        show(darkness, clock, BLACK, 50)
        show(darkness, clock, BRIGHT, 2)
    assert caplog.messages == []


def test_time_without_pictures_is_no_darkness(
    darkness: Darkness, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        show(darkness, clock, BLACK, 10)
        clock.seconds += 1000
    assert caplog.messages == []


def test_noise_in_the_dark_is_dark(
    darkness: Darkness, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 12, BLACK.shape, np.uint8)
    show(darkness, clock, noise, 100)
    assert len(caplog.messages) == 1
