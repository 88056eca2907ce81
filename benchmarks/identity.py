"""Presence and identity on clips: how long people are seen, and how often their number changes.

The reference is a detector on every frame (YuNet), whose faces are linked to people by overlap.
Run as a program, it prints the table for all detectors:

    python -m benchmarks.identity YUNET.onnx CLIP.mp4 …
"""

import itertools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.cases import Case
from benchmarks.frames import follower_of, frames_of
from benchmarks.settings import settings_of
from edge_daemon._lib.files import bundled_detector, bundled_models
from edge_daemon.detection import Detector
from edge_daemon.detection.bundled import BundledDetector
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.yunet import YuNetDetector
from edge_daemon.records import Box, TrackedFace

MIN_OVERLAP: Final = 0.4
"""Intersection over union from which two boxes are of the same face."""
LINK_OVERLAP: Final = 0.2
"""The same, of one person's boxes in two frames."""
MAX_GAP_FRAMES: Final = 25
"""Frames without a face after which the reference counts another person."""
MIN_FACES: Final = 5
"""Faces that a person of the reference has; fewer are false detections."""


@dataclass(frozen=True)
class Identity:
    """How the daemon's tracks match the people of the reference.

    Attributes:
        people: of the reference, in all clips together.
        faces: of these people, in all frames.
        covered: those of the faces at which the daemon has a track.
        switches: changes of a person's track number; a lost and restarted track is one.
    """

    people: int
    faces: int
    covered: int
    switches: int

    @property
    def presence(self) -> float:
        """Share of the faces at which the daemon has a track."""
        return self.covered / self.faces if self.faces else 0.0


Person = dict[int, Box]
"""A person's box in each frame, by the frame's number."""


def people_in(frames: Iterable[Sequence[Box]]) -> list[Person]:
    """Link the boxes of each frame to people: each to the one whose last box it overlaps most."""
    people: list[Person] = []
    for number, boxes in enumerate(frames):
        candidates = [
            person for person in people if number - next(reversed(person)) <= MAX_GAP_FRAMES
        ]
        for box in boxes:
            free = [person for person in candidates if number not in person]
            best = max(free, key=lambda person: last_box(person).iou(box), default=None)
            if best is not None and last_box(best).iou(box) >= LINK_OVERLAP:
                best[number] = box
            else:
                people.append({number: box})
    return [person for person in people if len(person) >= MIN_FACES]


def last_box(person: Person) -> Box:
    return person[next(reversed(person))]


def compare(people: Sequence[Person], tracked: Sequence[Sequence[TrackedFace]]) -> Identity:
    """Count the covered faces and the changes of track numbers.

    Args:
        people: of one clip, by `people_in`.
        tracked: the daemon's faces in each frame of the clip.
    """
    numbers = [
        [_track_at(box, tracked[frame]) for frame, box in person.items()] for person in people
    ]
    covered = [[track for track in tracks if track is not None] for tracks in numbers]
    return Identity(
        people=len(people),
        faces=sum(map(len, people)),
        covered=sum(map(len, covered)),
        switches=sum(
            one != other for tracks in covered for one, other in itertools.pairwise(tracks)
        ),
    )


def measure(clips: Sequence[Path], detector: Detector, reference: Detector) -> Identity:
    """Follow the faces of whole clips with the daemon's default settings."""
    total = Identity(0, 0, 0, 0)
    for clip in clips:
        bundle = str(bundled_models())
        case = Case(str(clip), "bundled", bundle, threads=1, frames=0, warmup=0)
        settings = settings_of(case)
        follower = follower_of(settings, detector)
        tracked = [follower(frame).faces for frame in frames_of(settings)]
        people = people_in(
            [found.box for found in reference.detect(frame.bgr)] for frame in frames_of(settings)
        )
        one = compare(people, tracked)
        total = Identity(
            total.people + one.people,
            total.faces + one.faces,
            total.covered + one.covered,
            total.switches + one.switches,
        )
    return total


def _track_at(box: Box, faces: Sequence[TrackedFace]) -> int | None:
    best = max(faces, key=lambda face: face.face.detection.box.iou(box), default=None)
    if best is None or best.face.detection.box.iou(box) < MIN_OVERLAP:
        return None
    return best.track_id


def main(yunet: str, *clips: str) -> None:
    reference = YuNetDetector(Path(yunet), 0.7)
    for detector in (BundledDetector(bundled_detector(), 0.7), reference, HaarDetector(24)):
        found = measure([Path(clip) for clip in clips], detector, reference)
        print(
            f"{detector.name}: {found.people} people; tracked in {100 * found.presence:.1f} % of "
            f"their {found.faces} faces; {found.switches} identity switches"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
