"""Collects what a summary shows: each face's visit, as stretches of one emotion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Final

import cv2

from edge_daemon._lib.clock import FrameTimer, HeldFrame
from edge_daemon.detection.step import resize_to_max_side
from edge_daemon.records import (
    FACE_LABELS,
    Box,
    EventKind,
    FaceEmotion,
    FaceLabel,
    Frame,
    FrameResult,
    Image,
    face_label,
)

MAX_GAP_S: Final = 1.0
"""Seconds in which a face does not count, after which it has another segment."""

MAX_SEGMENTS: Final = 100_000
"""Segments in memory, of all visits; beyond that, the oldest visits lose their detail."""
MAX_VISITS: Final = 25_000
"""Visits in memory; beyond that, the oldest count in the totals only."""

THUMBNAIL_SIDE: Final = 96
"""Longer side in pixels at most."""
THUMBNAIL_MARGIN: Final = 0.25
"""Around a face's box, in sides of the box."""
THUMBNAIL_GROWTH: Final = 1.2
"""Factor on the area of a face's box, from which its thumbnail is replaced."""


@dataclass
class Segment:
    """A stretch of a visit with one label, in seconds from the start."""

    start: float
    end: float
    label: FaceLabel


@dataclass
class Visit:
    """One face, from its first frame to its last."""

    track_id: int
    file: str | None
    """The image that shows it; None in a video."""
    segments: list[Segment]
    seconds: dict[FaceLabel, float] = field(default_factory=dict)
    """Time with each label."""
    has_appeared: bool = False
    """Whether it lasted long enough to be an event (`events.appear_after`)."""
    thumbnail: bytes | None = None
    """JPEG."""
    thumbnail_area: float = 0.0

    @property
    def start(self) -> float:
        return self.segments[0].start

    @property
    def end(self) -> float:
        return self.segments[-1].end

    @property
    def duration(self) -> float:
        return self.end - self.start

    @property
    def shares(self) -> dict[FaceLabel, float]:
        """Part of the visit's time for each label, the largest first."""
        return _shares(self.seconds)

    @property
    def main_label(self) -> FaceLabel:
        """The label of most of its time."""
        return next(iter(self.shares))

    def add(self, start: float, end: float, label: FaceLabel) -> int:
        """Continue the visit, and return the number of segments that this adds."""
        last = self.segments[-1] if self.segments else None
        if last is not None and last.label == label and start - last.end <= MAX_GAP_S:
            self._count(label, end - last.end)
            last.end = end
            return 0
        self._count(label, end - start)
        self.segments.append(Segment(start, end, label))
        return 1

    def simplify(self) -> int:
        """Reduce the visit to one segment, and return the number of segments that this removes.

        Its time with each label stays.
        """
        if not self.segments:
            return 0
        removed = len(self.segments) - 1
        self.segments = [Segment(self.start, self.end, self.main_label)]
        return removed

    def _count(self, label: FaceLabel, seconds: float) -> None:
        self.seconds[label] = self.seconds.get(label, 0.0) + seconds


@dataclass
class VisitTotals:
    """Visits of which only sums are kept."""

    visits: int = 0
    seconds: dict[FaceLabel, float] = field(default_factory=dict)
    """With each label."""
    duration: float = 0.0
    longest: float = 0.0

    def add(self, visit: Visit) -> None:
        self.visits += 1
        self.duration += visit.duration
        self.longest = max(self.longest, visit.duration)
        for label, seconds in visit.seconds.items():
            self.seconds[label] = self.seconds.get(label, 0.0) + seconds


@dataclass(frozen=True)
class Statistics:
    """What a run has seen."""

    source: str
    is_images: bool
    """Whether the source is images, each a unit of time of its own; else seconds."""
    started_at: datetime | None
    """When the first frame of a live source was captured, UTC."""
    frames: int
    frames_with_faces: int
    duration: float
    visits: Sequence[Visit]
    """In the order of their starts."""
    earlier: VisitTotals
    """Visits before those."""
    brief: int
    """Faces that left before they had appeared; not among the visits."""

    @cached_property
    def totals(self) -> VisitTotals:
        """Of all visits."""
        totals = replace(self.earlier, seconds=dict(self.earlier.seconds))
        for visit in self.visits:
            totals.add(visit)
        return totals

    @property
    def shares(self) -> dict[FaceLabel, float]:
        """Part of all visits' time for each label, in the order of FACE_LABELS."""
        shares = _shares(self.totals.seconds)
        return {label: shares.get(label, 0.0) for label in FACE_LABELS}


class Collector:
    """Collects the visits of a run.

    Args:
        source: its name, as it can be shown.
        has_thumbnails: whether to keep an image of each face.
    """

    def __init__(self, source: str, *, has_thumbnails: bool) -> None:
        self._source = source
        self._has_thumbnails = has_thumbnails
        self._visits: dict[int, Visit] = {}
        self._present: set[int] = set()
        """Tracks whose visits have not ended."""
        self._earlier = VisitTotals()
        self._brief = 0
        self._segments = 0
        self._frames = 0
        self._frames_with_faces = 0
        self._first: Frame | None = None
        self._timer: FrameTimer[Sequence[FaceEmotion]] = FrameTimer()
        self._end_s = 0.0

    def add(self, result: FrameResult) -> None:
        """Add a frame's result: its faces count until the next frame."""
        frame = result.frame
        if self._first is None:
            self._first = frame
            self._timer = FrameTimer(interval_s=float(frame.file is not None))
        now = self._time_of(frame)
        self._count(self._timer.end() if frame.is_blank else self._timer.next(now, result.faces))
        self._frames += not frame.is_blank
        self._frames_with_faces += bool(result.faces)
        self._end_visits(result.live_tracks)
        for face in result.faces:
            self._present.add(face.track_id)
            visit = self._visits.setdefault(face.track_id, Visit(face.track_id, frame.file, []))
            visit.has_appeared |= frame.file is not None
            if self._has_thumbnails:
                _update_thumbnail(visit, frame.bgr, face.face.detection.box)
        for event in result.events:
            if event.kind is EventKind.APPEARED and event.track_id in self._visits:
                self._visits[event.track_id].has_appeared = True

    def statistics(self) -> Statistics:
        """Complete the visits, once all results are there."""
        first = self._first
        is_images = first is not None and first.file is not None
        self._count(self._timer.end())
        visits = [visit for visit in self._visits.values() if visit.has_appeared]
        is_live = first is not None and not is_images and first.position_s is None
        return Statistics(
            source=self._source,
            is_images=is_images,
            started_at=first.captured_at if first is not None and is_live else None,
            frames=self._frames,
            frames_with_faces=self._frames_with_faces,
            duration=self._end_s,
            visits=visits,
            earlier=self._earlier,
            brief=self._brief + len(self._visits) - len(visits),
        )

    def _time_of(self, frame: Frame) -> float:
        """Seconds from the start; of images, their number."""
        if self._first is not None and self._first.file is not None:
            return float(self._frames)
        if frame.position_s is not None:
            return frame.position_s
        first = self._first or frame
        return frame.stream_time_s - first.stream_time_s

    def _count(self, held: HeldFrame[Sequence[FaceEmotion]] | None) -> None:
        """Count the faces of a frame, whose duration is now known."""
        if held is None:
            return
        self._end_s = max(self._end_s, held.end_s)
        for face in held.content:
            label = face_label(face.emotion, uncertain=face.uncertain)
            visit = self._visits[face.track_id]
            self._segments += visit.add(held.start_s, held.end_s, label)
        if self._segments > MAX_SEGMENTS:
            self._simplify_oldest()

    def _simplify_oldest(self) -> None:
        for visit in self._visits.values():
            if self._segments <= MAX_SEGMENTS // 2:
                return
            self._segments -= visit.simplify()

    def _end_visits(self, live_tracks: frozenset[int]) -> None:
        """Forget the brief visits that have ended, and the oldest ones beyond the limit."""
        for track_id in self._present - live_tracks:
            self._present.remove(track_id)
            if not self._visits[track_id].has_appeared:
                self._forget(track_id)
                self._brief += 1
        if len(self._visits) > MAX_VISITS:
            ended = [track_id for track_id in self._visits if track_id not in self._present]
            for track_id in ended[: MAX_VISITS // 2]:
                self._earlier.add(self._forget(track_id))

    def _forget(self, track_id: int) -> Visit:
        visit = self._visits.pop(track_id)
        self._segments -= len(visit.segments)
        return visit


def _shares(seconds: Mapping[FaceLabel, float]) -> dict[FaceLabel, float]:
    total = sum(seconds.values())
    ranked = sorted(seconds, key=seconds.__getitem__, reverse=True)
    return {label: seconds[label] / total if total else 0.0 for label in ranked}


def _update_thumbnail(visit: Visit, bgr: Image, box: Box) -> None:
    """Keep the face's largest view."""
    area = box.width * box.height
    if area < THUMBNAIL_GROWTH * visit.thumbnail_area:
        return
    side = (1 + 2 * THUMBNAIL_MARGIN) * max(box.width, box.height)
    x, y = box.centre
    left, top = max(0, round(x - side / 2)), max(0, round(y - side / 2))
    view = bgr[top : round(y + side / 2), left : round(x + side / 2)]
    if view.size == 0:
        return
    reduced = resize_to_max_side(view, THUMBNAIL_SIDE)
    _, jpeg = cv2.imencode(".jpg", reduced, (cv2.IMWRITE_JPEG_QUALITY, 85))
    visit.thumbnail, visit.thumbnail_area = jpeg.tobytes(), area
