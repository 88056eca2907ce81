import numpy as np
import pytest
from conftest import FakeClock
from drawing import draw_scene

from edge_daemon.capture.loop import FrameChecks

BRIGHT = draw_scene()
BLACK = np.zeros_like(BRIGHT)


@pytest.fixture
def checks(clock: FakeClock) -> FrameChecks:
    return FrameChecks("porch", clock)


def show(checks: FrameChecks, clock: FakeClock, picture: np.ndarray, seconds: int) -> None:
    for step in range(10 * seconds):
        noisy = picture.copy()
        noisy[:, :, 0] ^= np.uint8(step % 2 + (step // 10) % 2)  # no two checked frames are equal
        checks.check(noisy)
        clock.seconds += 0.1


@pytest.mark.slow
def test_darkness_is_logged_once_after_a_minute(
    checks: FrameChecks, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    show(checks, clock, BRIGHT, 100)
    show(checks, clock, BLACK, 59)
    assert caplog.messages == []
    show(checks, clock, BLACK, 500)
    assert caplog.messages == ["image is dark"]
    show(checks, clock, BRIGHT, 100)
    assert caplog.messages[1:] == ["image is bright again"]


def test_darkness_of_moments_is_not_logged(
    checks: FrameChecks, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        show(checks, clock, BLACK, 50)
        show(checks, clock, BRIGHT, 2)
    assert caplog.messages == []


def test_time_without_frames_is_no_darkness(
    checks: FrameChecks, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        show(checks, clock, BLACK, 10)
        clock.seconds += 1000
    assert caplog.messages == []


def test_noise_in_the_dark_is_dark(
    checks: FrameChecks, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 12, BLACK.shape, np.uint8)
    show(checks, clock, noise, 100)
    assert len(caplog.messages) == 1


def freeze(checks: FrameChecks, clock: FakeClock, seconds: int) -> None:
    for _ in range(seconds):
        checks.check(BRIGHT)
        clock.seconds += 1


def test_identical_frames_are_logged_once_after_a_minute(
    checks: FrameChecks, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    freeze(checks, clock, 60)
    assert caplog.messages == []
    freeze(checks, clock, 100)
    assert caplog.messages == ["image is frozen"]
    show(checks, clock, BRIGHT, 10)
    assert caplog.messages[1:] == ["image changes again"]
