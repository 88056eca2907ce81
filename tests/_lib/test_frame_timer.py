from edge_daemon._lib.clock import MAX_HOLD_S, FrameTimer


def test_frame_counts_until_the_next_one() -> None:
    timer: FrameTimer[str] = FrameTimer()
    assert timer.next(10.0, "a") is None
    held = timer.next(10.5, "b")
    assert held == (10.0, 0.5, "a")
    assert held.end_s == 10.5


def test_late_frame_ends_the_time_of_the_one_before_early() -> None:
    timer: FrameTimer[str] = FrameTimer()
    timer.next(0.0, "a")
    assert timer.next(60.0, "b") == (0.0, MAX_HOLD_S, "a")


def test_last_frame_counts_as_long_as_the_one_before() -> None:
    timer: FrameTimer[str] = FrameTimer()
    timer.next(0.0, "a")
    timer.next(0.25, "b")
    assert timer.end() == (0.25, 0.25, "b")
    assert timer.end() is None


def test_time_without_frames_does_not_count() -> None:
    timer: FrameTimer[str] = FrameTimer()
    timer.next(0.0, "a")
    timer.next(0.25, "b")
    timer.end()
    assert timer.next(60.0, "c") is None
    assert timer.end() == (60.0, 0.25, "c")


def test_only_frame_counts_for_the_interval() -> None:
    timer: FrameTimer[str] = FrameTimer(interval_s=1.0)
    timer.next(3.0, "a")
    assert timer.end() == (3.0, 1.0, "a")
