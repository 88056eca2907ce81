"""Builders of messages that devices publish, for the tests of their subscribers."""

from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, UUID, uuid5

from builders import probabilities
from pydantic import BaseModel

from edge_daemon.publishing.messages import Message
from edge_daemon.records import EventKind, Unscored
from edge_daemon.schema import (
    EventMessage,
    EventQueueStatus,
    FaceMessage,
    FacesMessage,
    HealthMessage,
    LatencyMessage,
    SourceState,
    StateMessage,
    rounded,
)

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

BASE = "edge-daemon"


def message(device: str, kind: str, content: BaseModel | bytes, *, retain: bool = False) -> Message:
    """A message on a device's topic."""
    payload = content if isinstance(content, bytes) else encoded(content)
    return Message(f"{BASE}/{device}/{kind}", payload, retain)


def encoded(content: BaseModel) -> bytes:
    return content.model_dump_json(by_alias=True).encode()


def scored(
    track_id: int, emotion: str, confidence: float, *, uncertain: bool = False
) -> FaceMessage:
    """A face with an emotion."""
    return FaceMessage(
        track_id=track_id,
        box=(202, 46, 89, 89),
        score=0.815,
        emotion=emotion,
        confidence=confidence,
        uncertain=uncertain,
        probabilities=rounded(probabilities(**{emotion: confidence})),
        members=2,
        unscored=None,
    )


def unscored(track_id: int, why: Unscored = Unscored.TOO_SMALL) -> FaceMessage:
    """A face without an emotion."""
    return FaceMessage(
        track_id=track_id,
        box=(20, 30, 18, 18),
        score=0.7,
        emotion=None,
        confidence=None,
        uncertain=False,
        probabilities=None,
        members=0,
        unscored=why,
    )


def faces(*seen: FaceMessage, at: datetime = NOON, latency_ms: float = 43.2) -> FacesMessage:
    return FacesMessage(
        time=at, latency_ms=latency_ms, frame=61, width=640, height=480, faces=seen, events=()
    )


def event(
    sequence: int,
    kind: EventKind = EventKind.APPEARED,
    *,
    track_id: int = 1,
    emotion: str = "happy",
    previous: str | None = None,
    at: datetime = NOON,
    duration: float = 0.6,
    event_id: UUID | None = None,
) -> EventMessage:
    """An event; its ID defaults to one that is derived from its number."""
    return EventMessage(
        event_id=event_id or uuid5(NAMESPACE_OID, str(sequence)),
        kind=kind,
        track_id=track_id,
        time=at,
        emotion=emotion,
        previous=previous,
        started=at - timedelta(seconds=duration),
        duration=duration,
        probabilities=rounded(probabilities(**{emotion: 0.7})),
        sequence=sequence,
        latency_ms=21.4,
    )


def state(*, at: datetime = NOON, seen: int = 1, paused: bool = False) -> StateMessage:
    return StateMessage(
        time=at,
        faces=seen,
        emotion="happy" if seen else "none",
        since=at,
        probabilities=rounded(probabilities(happy=0.7)) if seen else None,
        paused=paused,
    )


def health(
    source: SourceState = SourceState.RUNNING,
    *,
    at: datetime = NOON,
    temperature: float | None = 61.2,
    throttled: tuple[str, ...] = (),
    waiting: int = 0,
    lost: int = 0,
    version: str = "0.1.0",
) -> HealthMessage:
    """A device's health, with the depth of its event queue and the number of dropped events."""
    return HealthMessage(
        time=at,
        uptime_s=93_784.0,
        version=version,
        bundle_id="2026-11-20",
        source=source,
        fps_in=15.0,
        fps_out=14.8,
        dropped={"detection": 3, "inference": 0, "publishing": 0, "mqtt": 0},
        latency_ms=LatencyMessage(p50=43.0, p95=71.0),
        cpu_temperature_c=temperature,
        throttled=throttled,
        memory_mb=182.0,
        members_active=2,
        members_total=2,
        detection_interval=1,
        stuck_services=(),
        event_queue=EventQueueStatus(depth=waiting, oldest_age_s=0.0, dropped=lost, durable=True),
        reconnects=0,
    )
