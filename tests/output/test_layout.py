import numpy as np
import pytest

from edge_daemon.output.layout import Layout, Size, arrange, overlap
from edge_daemon.records import Box

PICTURE = Size(960, 540)
PANEL = Size(240, 190)


def panels(layout: Layout) -> list[Box]:
    return [Box(*corner, *layout.panel) for corner in layout.corners]


def gap(one: Box, other: Box) -> float:
    across = abs(one.centre[0] - other.centre[0]) - (one.width + other.width) / 2
    down = abs(one.centre[1] - other.centre[1]) - (one.height + other.height) / 2
    return float(np.hypot(max(0, across), max(0, down)))


@pytest.mark.parametrize(
    ("face", "side"),
    [
        (Box(400, 150, 140, 180), "right"),
        (Box(-30, 150, 140, 180), "right"),
        (Box(850, 150, 140, 180), "left"),
    ],
)
def test_panel_is_next_to_its_face_at_its_height(face: Box, side: str) -> None:
    (panel,) = panels(arrange(PICTURE, [face], PANEL))
    assert ("right" if panel.x > face.x else "left") == side
    assert 0 < gap(panel, face) < 50
    assert panel.centre[1] == pytest.approx(face.centre[1], abs=10)


def test_panel_without_room_aside_is_straight_below() -> None:
    face = Box(60, 20, 180, 240)
    layout = arrange(Size(300, 540), [face], PANEL)
    (panel,) = panels(layout)
    assert layout.canvas == (300, 540)
    assert panel.y > face.y + face.height
    assert panel.centre[0] == pytest.approx(face.centre[0], abs=10)


def test_panel_without_room_is_right_of_the_picture() -> None:
    layout = arrange(Size(300, 320), [Box(20, 20, 260, 280)], PANEL)
    (panel,) = panels(layout)
    assert layout.columns == 1
    assert 300 < panel.x < panel.x + panel.width < layout.canvas.width
    assert panel.centre[1] == pytest.approx(160, abs=1)


@pytest.mark.parametrize("picture", [Size(1, 1), Size(100, 20), Size(5, 300)])
def test_canvas_of_a_tiny_picture_has_room_for_a_panel(picture: Size) -> None:
    layout = arrange(picture, [Box(0, 0, *picture)], PANEL)
    (panel,) = panels(layout)
    assert panel.x > picture.width
    assert 0 <= panel.y <= panel.y + panel.height <= layout.canvas.height


def test_panels_of_a_crowd_are_in_aligned_columns() -> None:
    crowd = [Box(120 * i, 180 * j, 120, 180) for i in range(8) for j in range(3)]
    layout = arrange(PICTURE, crowd, PANEL)
    assert layout.columns == 12
    assert len({corner[0] for corner in layout.corners}) == 12
    assert len({corner[1] for corner in layout.corners}) == 2


def test_picture_without_faces_keeps_its_canvas() -> None:
    assert arrange(PICTURE, [], PANEL) == Layout(PICTURE, PANEL, (), 0)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_panels_cover_nothing_and_are_nearest_to_their_face(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(30):
        sides = rng.uniform(30, 200, count)
        corners = rng.uniform(-20, 1, (count, 2)) + rng.uniform(0, 1, (count, 2)) * (900, 480)
        faces = [Box(x, y, side, 1.2 * side) for (x, y), side in zip(corners, sides, strict=True)]
        layout = arrange(PICTURE, faces, PANEL)
        placed = panels(layout)
        for number, (panel, own) in enumerate(zip(placed, faces, strict=True)):
            assert min(panel.x, panel.y) >= 0
            assert panel.x + panel.width <= layout.canvas.width
            assert panel.y + panel.height <= layout.canvas.height
            assert not any(overlap(panel, other) for other in placed[:number])
            if panel.x < PICTURE.width:
                assert not any(overlap(panel, face) for face in faces)
                # Heads reach beyond boxes by at most 0.15 of 240 pixels.
                assert all(gap(panel, own) <= gap(panel, face) + 51 for face in faces)
