import numpy as np
import pytest

from benchmarks.identity import compare, people_in
from edge_daemon.records import CROP_SIDE, Box, Detection, Face, TrackedFace


def box(x: float) -> Box:
    return Box(x, 10, 20, 20)


def track(number: int, x: float) -> TrackedFace:
    crop = np.zeros((CROP_SIDE, CROP_SIDE), np.uint8)
    return TrackedFace(number, Face(Detection(box(x), 0.9), crop, None))


def test_overlap_of_boxes() -> None:
    assert box(0).iou(box(0)) == 1
    assert box(0).iou(box(10)) == pytest.approx(1 / 3)
    assert box(0).iou(box(30)) == 0


def test_people_are_linked_by_overlap_and_short_ones_dropped() -> None:
    frames = [[box(i), box(100 - i)] for i in range(10)]
    frames[4].append(box(300))
    assert [len(person) for person in people_in(frames)] == [10, 10]


def test_person_away_for_long_is_another() -> None:
    frames = [[box(0)]] * 6 + [[]] * 30 + [[box(0)]] * 6
    assert [len(person) for person in people_in(frames)] == [6, 6]


def test_compare_counts_switches_and_covered_faces() -> None:
    people = people_in([[box(0), box(100)]] * 6)
    tracked = (
        [[track(1, 0), track(2, 100)]] * 2 + [[track(2, 100)]] + [[track(3, 1), track(2, 99)]] * 3
    )
    found = compare(people, tracked)
    assert (found.people, found.faces, found.covered, found.switches) == (2, 12, 11, 1)
    assert found.presence == pytest.approx(11 / 12)
