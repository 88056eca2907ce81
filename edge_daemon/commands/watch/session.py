"""Totals since `watch` started: visits, the time of each emotion, and its course."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from edge_daemon.records import EMOTIONS
from edge_daemon.schema import FacesMessage

BIN_S: Final = 5.0
"""Length of a step of the course."""

MAX_BINS: Final = 240
"""Steps kept: 20 minutes."""

MAX_GAP_S: Final = 2.0
"""Longest time that one message stands for; after a longer gap, nothing is known of it."""


@dataclass
class Session:
    """Counts visits and adds up the time of all faces by emotion."""

    visits: int = 0
    """Faces that appeared."""
    face_seconds: Counter[str] = field(default_factory=Counter)
    """Time of all faces by emotion."""
    _bins: deque[tuple[int, Counter[str]]] = field(default_factory=lambda: deque(maxlen=MAX_BINS))
    """The number of each step, and the time of all faces in it; steps without faces are absent."""

    @property
    def total_s(self) -> float:
        """Time of all faces together."""
        return sum(self.face_seconds.values())

    def share(self, emotion: str) -> float:
        """An emotion's share of the time of all faces, 0 to 1."""
        total_s = self.total_s
        return self.face_seconds[emotion] / total_s if total_s else 0.0

    def most_frequent(self, count: int) -> list[str]:
        """The emotions with the largest shares, in the usual order."""
        by_time = sorted(EMOTIONS, key=self.face_seconds.__getitem__, reverse=True)
        return [name for name in EMOTIONS if name in by_time[:count]]

    def add(self, message: FacesMessage, gap_s: float, now: float) -> None:
        """Add a device's message that arrived at `now`, `gap_s` after the one before."""
        if not 0 < gap_s <= MAX_GAP_S:
            return
        number = int(now // BIN_S)
        for face in message.faces:
            if face.emotion in EMOTIONS:
                self.face_seconds[face.emotion] += gap_s
                self._bin(number)[face.emotion] += gap_s

    def course(self, now: float, steps: int) -> dict[str, list[float]]:
        """By emotion, the mean number of faces in each of the latest steps, oldest first."""
        first = int(now // BIN_S) - steps + 1
        means = {name: [0.0] * steps for name in EMOTIONS}
        for number, seconds in self._bins:
            if first <= number < first + steps:
                for name, value in seconds.items():
                    means[name][number - first] = value / BIN_S
        return means

    def _bin(self, number: int) -> Counter[str]:
        if not self._bins or self._bins[-1][0] != number:
            self._bins.append((number, Counter()))
        return self._bins[-1][1]
