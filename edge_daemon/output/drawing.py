"""Annotated copies of images: the faces are marked, each with a label of its emotions."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon.errors import OutputError
from edge_daemon.output.base import WRITABLE_IMAGE_SUFFIXES, has_valid_length, replace_file
from edge_daemon.output.layout import (
    Corner,
    Layout,
    Placer,
    Size,
    arrange,
    head_of,
    overlap,
)
from edge_daemon.output.panel import (
    GROUND,
    Colour,
    draw_number,
    draw_panel,
    draw_tag,
    panel_size,
    tag_size,
)
from edge_daemon.records import EMOTIONS, Box, FaceEmotion, FrameResult, Image, Probabilities
from edge_daemon.schema import within


@dataclass(frozen=True, eq=False)
class Annotation:
    """A face to mark."""

    box: Box
    probabilities: Probabilities | None
    """None where the face is not scored."""
    note: str = ""
    """What limits the result, such as `too small`."""
    track_id: int = 0
    """The same for one face in all frames of a video."""

    @property
    def text(self) -> str:
        """The emotion and its probability, or why there is none."""
        if self.probabilities is None:
            return self.note
        index = int(self.probabilities.argmax())
        return f"{EMOTIONS[index]} {100 * self.probabilities[index]:.0f} %"

    def scaled(self, x: float, y: float) -> "Annotation":
        """The same face in an image that is resized by these factors."""
        left, top, width, height = self.box
        return replace(self, box=Box(x * left, y * top, x * width, y * height))


def annotations_of(result: FrameResult) -> list[Annotation]:
    """The faces of a frame, from left to right."""
    faces = sorted(result.faces, key=lambda face: face.face.detection.box.centre)
    return [
        Annotation(face.face.detection.box, face.probabilities, _note(face), face.track_id)
        for face in faces
    ]


def _note(face: FaceEmotion) -> str:
    """Why a face is not scored, or that its emotion is uncertain."""
    if face.face.unscored is not None:
        return face.face.unscored.replace("_", " ")
    return "uncertain" if face.uncertain else ""


COLOURS: Final[tuple[Colour, ...]] = (
    (255, 193, 7),
    (79, 195, 247),
    (129, 199, 132),
    (255, 138, 101),
    (206, 147, 216),
    (240, 240, 120),
)
"""Faces take turns with these."""

MIN_SIDE: Final = 720
"""A smaller image is enlarged to the area of a square with this side, in pixels."""

LETTERS: Final = (1 / 36, 1 / 45, 1 / 60, 1 / 75, 1 / 90)
"""Sizes of letters to try, in sides of a square of the image's area …"""
MIN_LETTER: Final = 12.0
"""… and the smallest that is readable, in pixels."""

VIDEO_LETTER: Final = 1 / 60
"""Size of letters in videos, in sides of a square of the frame's area."""

MAX_PANEL_SHARE: Final = 0.1
"""Of a frame's area, that a panel can cover; smaller frames have short labels only."""


def annotate_image(bgr: Image, annotations: Sequence[Annotation]) -> Image:
    """Draw a copy of a BGR uint8 [H, W, 3] image with its faces marked.

    It may be larger than the image: small ones are enlarged, and where there is no room next to
    a face, its panel is to the right of the image.
    """
    bgr, scale = _enlarged(bgr)
    image = Size(bgr.shape[1], bgr.shape[0])
    boxes = [_box_within(annotation.box, scale, image) for annotation in annotations]
    titles = _titles(annotations)
    letter, layout = _choose(image, boxes, titled=any(titles))
    canvas = np.empty((layout.canvas.height, layout.canvas.width, 3), np.uint8)
    canvas[:] = GROUND[::-1]
    canvas[: image.height, : image.width] = bgr
    colours = list(islice(cycle(COLOURS), len(annotations)))
    for box, colour in zip(boxes, colours, strict=True):
        _draw_box(canvas, box, letter, colour)
    if len(boxes) > 1:
        side = round(1.5 * letter)
        for number, (corner, colour) in enumerate(
            zip(_number_corners(boxes, layout, side), colours, strict=True), 1
        ):
            _paste(canvas, draw_number(str(number), side, colour), corner)
    for annotation, title, corner, colour in zip(
        annotations, titles, layout.corners, colours, strict=True
    ):
        _paste(canvas, draw_panel(annotation.probabilities, title, letter, colour), corner)
    return canvas


class FrameAnnotator:
    """Draws the annotated copies of a video's frames, which keep their size.

    A label that has no room next to its face is shortened, or left out.

    Args:
        frame: the size of all frames.
    """

    def __init__(self, frame: Size) -> None:
        self._frame = frame
        self._letter = float(max(MIN_LETTER, round(VIDEO_LETTER * _side(frame))))
        panel = panel_size(self._letter, titled=True)
        has_panels = panel.width * panel.height <= MAX_PANEL_SHARE * frame.width * frame.height
        self._drawers = [self._draw_tag_with_bars, self._draw_tag]
        sizes = [tag_size(self._letter, has_bars=has_bars) for has_bars in (True, False)]
        if has_panels:
            self._drawers.insert(0, self._draw_panel)
            sizes.insert(0, panel)
        self._placer = Placer(frame, sizes)

    def annotate(
        self,
        bgr: Image,
        annotations: Sequence[Annotation],
        live_tracks: frozenset[int] = frozenset(),
    ) -> Image:
        """Draw a copy of the next frame, BGR uint8 [H, W, 3].

        Args:
            bgr: the frame.
            annotations: its faces, each with its own track.
            live_tracks: tracks that can return.
        """
        canvas = bgr.copy()
        boxes = {a.track_id: _box_within(a.box, 1.0, self._frame) for a in annotations}
        placements = self._placer.place(boxes, live_tracks)
        for annotation in annotations:
            box = boxes[annotation.track_id]
            _draw_box(canvas, box, self._letter, _colour_of(annotation))
        for annotation in annotations:
            if (placement := placements.get(annotation.track_id)) is not None:
                label = self._drawers[placement.level](annotation)
                _paste(canvas, label, (int(placement.box.x), int(placement.box.y)))
        return canvas

    def _draw_panel(self, annotation: Annotation) -> Image:
        title = " · ".join(filter(None, (f"face {annotation.track_id}", annotation.note)))
        colour = _colour_of(annotation)
        return draw_panel(annotation.probabilities, title, self._letter, colour)

    def _draw_tag_with_bars(self, annotation: Annotation) -> Image:
        probabilities = annotation.probabilities
        if probabilities is None:
            probabilities = np.zeros(len(EMOTIONS), np.float32)
        return draw_tag(annotation.text, probabilities, self._letter, _colour_of(annotation))

    def _draw_tag(self, annotation: Annotation) -> Image:
        return draw_tag(annotation.text, None, self._letter, _colour_of(annotation))


def _colour_of(annotation: Annotation) -> Colour:
    return COLOURS[annotation.track_id % len(COLOURS)]


def _enlarged(bgr: Image) -> tuple[Image, float]:
    """The image, enlarged if it is small, and by which factor."""
    height, width = bgr.shape[:2]
    scale = MIN_SIDE / _side(Size(width, height))
    if scale <= 1:
        return bgr, 1.0
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_CUBIC), np.uint8), scale


def _side(size: Size) -> float:
    """Side of the square of the same area."""
    return math.sqrt(size.width * size.height)


def _box_within(box: Box, scale: float, image: Size) -> Box:
    return Box(*within(Box(*(scale * value for value in box)), *image))


def _titles(annotations: Sequence[Annotation]) -> list[str]:
    """A face's number, if there are several, and what limits its result."""
    if len(annotations) == 1:
        return [annotations[0].note]
    return [
        " · ".join(filter(None, (str(number), annotation.note)))
        for number, annotation in enumerate(annotations, 1)
    ]


def _choose(image: Size, boxes: Sequence[Box], *, titled: bool) -> tuple[float, Layout]:
    """The letters with which the fewest columns of panels are outside, of those the largest."""
    letters = [max(MIN_LETTER, part * _side(image)) for part in LETTERS]
    choices = [
        (letter, arrange(image, boxes, panel_size(letter, titled=titled))) for letter in letters
    ]
    return min(choices, key=lambda choice: choice[1].columns)


def _draw_box(canvas: Image, box: Box, letter: float, colour: Colour) -> None:
    """Draw a frame around a face's box, with a dark edge that sets it off."""
    stroke, edge = max(2, round(letter / 8)), max(1, round(letter / 16))
    _draw_frame(canvas, box, stroke + edge, GROUND)
    _draw_frame(canvas, box, stroke, colour)


def _draw_frame(canvas: Image, box: Box, width: int, colour: Colour) -> None:
    """Draw a frame outside a box, and inside it where the box ends at the canvas's edge."""
    height, whole = canvas.shape[:2]
    left, top = max(int(box.x), width), max(int(box.y), width)
    right = min(int(box.x + box.width), whole - width)
    bottom = min(int(box.y + box.height), height - width)
    if right < left or bottom < top:
        return
    bgr = colour[::-1]
    canvas[top - width : top, left - width : right + width] = bgr
    canvas[bottom : bottom + width, left - width : right + width] = bgr
    canvas[top - width : bottom + width, left - width : left] = bgr
    canvas[top - width : bottom + width, right : right + width] = bgr


def _number_corners(boxes: Sequence[Box], layout: Layout, side: int) -> Iterator[Corner]:
    """The corners of the faces' numbers: outside their boxes where that covers nothing."""
    panels = [Box(*corner, *layout.panel) for corner in layout.corners]
    for box in boxes:
        above = Box(box.x, box.y - side, side, side)
        below = Box(box.x, box.y + box.height, side, side)
        covered = [*panels, *(head_of(other) for other in boxes if other is not box)]
        x, y, *_ = next(
            (
                free
                for free in (above, below)
                if 0 <= free.y <= layout.canvas.height - side
                and not any(overlap(free, other) for other in covered)
            ),
            box,
        )
        yield int(x), int(y)


def _paste(canvas: Image, label: Image, corner: Corner) -> None:
    """Blend an RGBA label into the BGR canvas, as far as it is on it."""
    x, y = corner
    part = canvas[y : y + label.shape[0], x : x + label.shape[1]]
    label = label[: part.shape[0], : part.shape[1]]
    opacity = label[:, :, 3:].astype(np.uint16)
    ink = label[:, :, 2::-1].astype(np.uint16)
    part[:] = (ink * opacity + part * (255 - opacity) + 127) // 255


JPEG_QUALITY: Final = 95


class AnnotatedImages:
    """Writes a copy of each image: a folder's into a folder, under the same names.

    Args:
        path: the copy's file, or the copies' folder, which is created.
        is_folder: which of the two.
    """

    def __init__(self, path: Path, *, is_folder: bool) -> None:
        self.path = path
        self._is_folder = is_folder

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        if frame.file is None:
            return
        file = self.path
        if self._is_folder:
            self.path.mkdir(exist_ok=True)
            file = self.path / copy_name(frame.file)
        write_image(file, annotate_image(frame.bgr, annotations_of(result)))

    def close(self) -> None:
        """Each file is complete already."""

    def discard(self) -> None:
        """Each file is complete already."""


def copy_name(name: str) -> str:
    """The name of an image's copy: the same, or a JPEG's where the format cannot be written."""
    if Path(name).suffix.lower() in WRITABLE_IMAGE_SUFFIXES:
        return name
    longer = f"{name}.jpg"
    return longer if has_valid_length(longer) else f"{Path(name).stem}.jpg"


def write_image(path: Path, bgr: Image) -> None:
    """Write a BGR uint8 [H, W, 3] image in the format of the file's suffix, in one step.

    Raises:
        OutputError: OpenCV cannot encode this format or size.
        OSError: it cannot be written.
    """
    try:
        done, content = cv2.imencode(path.suffix, bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    except cv2.error as error:
        raise OutputError(f"{path}: cannot be encoded: {error.err}") from error
    if not done:
        height, width = bgr.shape[:2]
        raise OutputError(
            f"{path}: too large for its format (got {width}x{height} pixels); write a .png, or "
            "only a .csv"
        )
    replace_file(path, content.tobytes())
