"""The soak's report must not miss a loss."""

from dataclasses import dataclass, field, replace

import pytest
from soak.device import Sample
from soak.report import Incident, Limits, Summary, summary

LIMITS = Limits(memory_growth=25.0, more_files=20)


def samples(*rss_mb: float, life: int = 1) -> list[Sample]:
    """One a minute."""
    return [
        Sample(life, 60.0 * number, one, files=20, threads=10)
        for number, one in enumerate(rss_mb, 1)
    ]


@dataclass
class SoakedDevice:
    """A device after the soak."""

    logged: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 2, "c": 3})
    samples: list[Sample] = field(default_factory=lambda: samples(100, 110, 105))
    own_ends: list[str] = field(default_factory=list)
    restarts: int = 0
    seconds_up: float = 590.0
    lines: list[str] = field(default_factory=list)


@dataclass
class SoakedListener:
    """A listener after the soak."""

    events: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 2, "c": 3})
    repeated: int = 0
    dropped: int = 0
    refused: int = 0


def summed_up(device: SoakedDevice, listener: SoakedListener, *incidents: Incident) -> Summary:
    return summary(600.0, device, listener, incidents)  # type: ignore[arg-type]


def test_good_soak_has_no_problems() -> None:
    good = summed_up(SoakedDevice(), SoakedListener(repeated=2), Incident("cut", 10, 12, 15))
    assert list(good.problems(LIMITS)) == []
    first = list(good.text())[:2]
    assert first == [
        "10.0 minutes, up for 98.3 % of them, 0 restarts, 0 ends of its own",
        "events: 3 created, 3 delivered, 0 lost, 0 out of order, 2 duplicates",
    ]
    assert "| cut | 1 | 3.0 | 3.0 |" in good.text()


def test_event_known_only_to_the_broker_is_no_loss() -> None:
    """The daemon was killed between saving it and logging it."""
    delivered = SoakedListener({"a": 1, "b": 2, "x": 3, "c": 4})
    summary = summed_up(SoakedDevice({"a": 1, "b": 2, "c": 4}), delivered)
    assert list(summary.problems(LIMITS)) == []
    assert (summary.created, summary.delivered) == (3, 4)


@pytest.mark.parametrize(
    ("device", "listener", "problem"),
    [
        ({}, {"events": {"a": 1, "c": 2}}, "lost: 1"),
        ({}, {"events": {"a": 1, "c": 3, "b": 2}}, "out of order: 2"),
        ({}, {"dropped": 4}, "given up: 4"),
        ({}, {"refused": 1}, "refused: 1"),
        ({"lines": ["Traceback (most recent call last):"]}, {}, "tracebacks: 1"),
        ({"own_ends": ["code 1: …"]}, {}, "the daemon ended by itself: code 1: …"),
        ({"samples": samples(100, 126)}, {}, "memory grew from 100 to 126 MB"),
        (
            {"samples": [*samples(100), replace(samples(100)[0], files=41)]},
            {},
            "open files grew from 20 to 41",
        ),
    ],
)
def test_problem_is_reported(
    device: dict[str, object], listener: dict[str, object], problem: str
) -> None:
    summary = summed_up(
        replace(SoakedDevice(), **device),  # type: ignore[arg-type]
        replace(SoakedListener(), **listener),  # type: ignore[arg-type]
    )
    assert list(summary.problems(LIMITS)) == [problem]


def test_fault_without_recovery_is_reported() -> None:
    summary = summed_up(SoakedDevice(), SoakedListener(), Incident("cut", 10, 12, None))
    assert list(summary.problems(LIMITS)) == ["no recovery from: cut"]


def test_recovery_during_another_fault_is_not_timed() -> None:
    summary = summed_up(
        SoakedDevice(),
        SoakedListener(),
        Incident("cut", 10, 12, 13),
        Incident("cut", 20, 22, 29),
        Incident("lost", 25, 30, 31),
    )
    assert (summary.recovery["cut"].faults, summary.recovery["cut"].most) == (2, 1)
    assert summary.recovery["lost"].most == 1
