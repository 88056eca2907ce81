"""The results of a soak, and whether they are within the limits."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final

from soak.device import Device, Sample
from soak.listener import Listener

SETTLED: Final = 20.0
"""Seconds after which a process has all that it needs."""


@dataclass(frozen=True)
class Incident:
    """An injected fault; times in seconds since the start."""

    fault: str
    began: float
    ended: float
    recovered: float | None
    """When results came again, and all events logged until then had come; None if never."""

    @property
    def seconds(self) -> float | None:
        return None if self.recovered is None else self.recovered - self.ended


@dataclass(frozen=True)
class Limits:
    """The limits of a soak."""

    memory_growth: float
    """Percent."""
    more_files: int


@dataclass(frozen=True)
class Usage:
    """A figure over the whole soak; `first` is of a process that has settled."""

    first: float
    last: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Usage":
        return cls(values[0], values[-1], max(values))


@dataclass(frozen=True)
class Recovery:
    """How long it took from a fault's end, in seconds, where no other fault came in between."""

    faults: int
    median: float | None
    most: float | None


@dataclass(frozen=True)
class Summary:
    minutes: float
    uptime_percent: float
    restarts: int
    own_ends: list[str]
    created: int
    """Events in the daemon's log."""
    delivered: int
    """Distinct events that arrived; a killed daemon may not have logged its last ones."""
    lost: int
    duplicates: int
    out_of_order: int
    given_up: int
    """By the daemon's own count."""
    refused: int
    """Messages that violate their schema."""
    tracebacks: int
    not_recovered: list[str]
    rss_mb: Usage
    files: Usage
    threads: Usage
    longest_life_minutes: float
    longest_life_rss_mb: Usage
    recovery: dict[str, Recovery]

    def problems(self, limits: Limits) -> Iterator[str]:
        """The violations of the limits."""
        for what in ("lost", "out_of_order", "given_up", "refused", "tracebacks"):
            if (number := getattr(self, what)) > 0:
                yield f"{what.replace('_', ' ')}: {number}"
        yield from (f"the daemon ended by itself: {end}" for end in self.own_ends)
        yield from (f"no recovery from: {fault}" for fault in self.not_recovered)
        if self.rss_mb.most > self.rss_mb.first * (1 + limits.memory_growth / 100):
            yield f"memory grew from {self.rss_mb.first:.0f} to {self.rss_mb.most:.0f} MB"
        if self.files.most > self.files.first + limits.more_files:
            yield f"open files grew from {self.files.first:.0f} to {self.files.most:.0f}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> Iterator[str]:
        yield (
            f"{self.minutes:.1f} minutes, up for {self.uptime_percent:.1f} % of them, "
            f"{self.restarts} restarts, {len(self.own_ends)} ends of its own"
        )
        yield (
            f"events: {self.created} created, {self.delivered} delivered, {self.lost} lost, "
            f"{self.out_of_order} out of order, {self.duplicates} duplicates"
        )
        yield ""
        yield "| | first | last | most |"
        yield "| --- | --- | --- | --- |"
        yield _row("memory (RSS), MB", self.rss_mb)
        yield _row(
            f"memory in the longest life, {self.longest_life_minutes:.1f} minutes",
            self.longest_life_rss_mb,
        )
        yield _row("open files", self.files)
        yield _row("threads", self.threads)
        yield ""
        yield "| fault | times | recovery after, s (median) | most |"
        yield "| --- | --- | --- | --- |"
        for fault, took in sorted(self.recovery.items()):
            yield f"| {fault} | {took.faults} | {_seconds(took.median)} | {_seconds(took.most)} |"


def summary(
    seconds: float, device: Device, listener: Listener, incidents: Sequence[Incident]
) -> Summary:
    """Count what happened, once all has ended."""
    created, delivered = device.logged, listener.events
    settled = [sample for sample in device.samples if sample.age > SETTLED] or device.samples[-1:]
    life = _longest_life(settled)
    return Summary(
        minutes=seconds / 60,
        uptime_percent=min(100.0, 100 * device.seconds_up / seconds),
        restarts=device.restarts,
        own_ends=device.own_ends,
        created=len(created),
        delivered=len(delivered),
        lost=len(created.keys() - delivered.keys()),
        duplicates=listener.repeated,
        out_of_order=_out_of_order(list(delivered.values())),
        given_up=listener.dropped,
        refused=listener.refused,
        tracebacks=sum("Traceback" in line for line in device.lines),
        not_recovered=[one.fault for one in incidents if one.recovered is None],
        rss_mb=Usage.of([sample.rss_mb for sample in settled]),
        files=Usage.of([sample.files for sample in settled]),
        threads=Usage.of([sample.threads for sample in settled]),
        longest_life_minutes=life[-1].age / 60,
        longest_life_rss_mb=Usage.of([sample.rss_mb for sample in life]),
        recovery=dict(_recoveries(incidents)),
    )


def _out_of_order(sequences: Sequence[int]) -> int:
    """How many do not follow the one before by one."""
    return sum(later != earlier + 1 for earlier, later in pairwise(sequences))


def _longest_life(samples: Sequence[Sample]) -> list[Sample]:
    longest = max(samples, key=lambda sample: sample.age).life
    return [sample for sample in samples if sample.life == longest]


def _recoveries(incidents: Sequence[Incident]) -> Iterator[tuple[str, Recovery]]:
    for fault in {incident.fault for incident in incidents}:
        of_kind = [incident for incident in incidents if incident.fault == fault]
        alone = [one.seconds for one in of_kind if not _disturbed(one, incidents)]
        took = [seconds for seconds in alone if seconds is not None]
        most = max(took, default=None)
        yield fault, Recovery(len(of_kind), median(took) if took else None, most)


def _disturbed(incident: Incident, incidents: Sequence[Incident]) -> bool:
    """Whether another fault went on while this one was recovered from."""
    end = incident.recovered or incident.ended
    return any(
        other is not incident
        and other.began < end
        and (other.recovered or other.ended) > incident.ended
        for other in incidents
    )


def _row(what: str, usage: Usage) -> str:
    return f"| {what} | {usage.first:.0f} | {usage.last:.0f} | {usage.most:.0f} |"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
