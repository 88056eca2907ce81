import numpy as np
import pytest

from edge_daemon.output.layout import ENLARGE_INTERVAL, Placer, Size, overlap
from edge_daemon.records import Box

FRAME = Size(960, 540)
LARGE, SMALL = Size(240, 190), Size(110, 22)


@pytest.fixture
def placer() -> Placer:
    return Placer(FRAME, [LARGE, SMALL])


def test_label_follows_its_face(placer: Placer) -> None:
    corners = []
    for step in range(40):
        box = Box(100 + 5 * step, 150, 120, 150)
        corners.append(placer.place({1: box})[1].box)
    moves = np.diff([corner.x for corner in corners])
    assert (moves == 5).all()
    assert len({corner.y for corner in corners}) == 1


def test_label_changes_sides_at_the_edge(placer: Placer) -> None:
    near_left = placer.place({1: Box(100, 150, 120, 150)})[1].box
    near_right = placer.place({1: Box(820, 150, 120, 150)})[1].box
    assert near_left.x > 220
    assert near_right.x + near_right.width < 820


def test_label_returns_to_its_side_after_a_gap(placer: Placer) -> None:
    face = Box(400, 150, 120, 150)
    placer.place({1: face, 2: Box(100, 150, 100, 150)})
    placer.place({}, frozenset({1}))
    moved = placer.place({1: face}, frozenset({1}))[1].box
    placer.place({})
    assert overlap(moved, Placer(FRAME, [LARGE, SMALL]).place({1: face})[1].box)


def test_label_without_room_is_shortened() -> None:
    placer = Placer(Size(300, 300), [LARGE, SMALL])
    placement = placer.place({1: Box(100, 100, 100, 120)})[1]
    assert placement.level == 1
    assert (placement.box.width, placement.box.height) == SMALL


def test_label_without_any_room_is_left_out() -> None:
    placer = Placer(Size(300, 300), [LARGE, SMALL])
    assert placer.place({1: Box(10, 10, 280, 280)}) == {}


def test_short_label_grows_after_a_while(placer: Placer) -> None:
    crowd = {2: Box(250, 60, 200, 420), 3: Box(500, 60, 200, 420), 4: Box(740, 60, 200, 420)}
    levels = [placer.place({1: Box(30, 200, 100, 120)} | crowd)[1].level]
    alone = {1: Box(30, 200, 100, 120)}
    levels += [placer.place(alone)[1].level for _ in range(ENLARGE_INTERVAL)]
    assert levels[0] == levels[1] == 1
    assert levels[-1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_labels_of_moving_faces_cover_nothing(placer: Placer, count: int) -> None:
    rng = np.random.default_rng(count)
    sides = rng.uniform(30, 160, count)
    start = rng.uniform(0, 1, (count, 2)) * (860, 420)
    speed = rng.uniform(-12, 12, (count, 2))
    labelled = 0
    for step in range(60):
        places = start + step * speed
        faces = {
            track: Box(x % 880, y % 440, side, 1.2 * side)
            for track, ((x, y), side) in enumerate(zip(places, sides, strict=True))
        }
        labels = {track: placement.box for track, placement in placer.place(faces).items()}
        labelled += len(labels)
        for track, label in labels.items():
            assert min(label.x, label.y) >= 0
            assert label.x + label.width <= FRAME.width
            assert label.y + label.height <= FRAME.height
            assert not any(overlap(label, face) for face in faces.values())
            others = [other for number, other in labels.items() if number != track]
            assert not any(overlap(label, other) for other in others)
    assert labelled > 0.7 * 60 * count
