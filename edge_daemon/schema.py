"""The public schema of all messages. Nothing else leaves the device."""

import math
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.text import encodable
from edge_daemon.records import (
    EMOTIONS,
    Box,
    EmotionName,
    Event,
    EventKind,
    FaceEmotion,
    FrameResult,
    Probabilities,
    SourceState,
    Unscored,
)

SCHEMA_VERSION: Final = 1

DominantEmotion = Literal[EmotionName, "uncertain", "none"]
"""The dominant emotion, or why there is none."""

PROBABILITY_DIGITS: Final = 4


Timestamp = Annotated[
    AwareDatetime,
    PlainSerializer(
        lambda time: time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        return_type=str,
    ),
]
"""RFC 3339, UTC, to the millisecond."""


class _Message(BaseModel):
    # JSON can hold numbers that are infinite once they are read, such as 1e999.
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


class FaceMessage(_Message):
    """One face."""

    track_id: int = Field(
        description="Number of the track, constant for a visit. Unique until the daemon restarts, "
        "then counts from 1 again."
    )
    box: tuple[int, int, int, int] = Field(
        description="x, y, width and height in pixels, within the frame."
    )
    score: float = Field(description="The detector's confidence, 0 to 1.")
    emotion: EmotionName | None = Field(
        description="The most probable emotion; null if not scored."
    )
    confidence: float | None = Field(description="Probability of `emotion`; null if not scored.")
    uncertain: bool = Field(
        description="Whether the confidence is below `smoothing.uncertain_below`."
    )
    probabilities: dict[str, float] | None = Field(
        description="Probabilities of all seven emotions, smoothed over time; they sum to 1."
    )
    members: int = Field(description="Number of members of the ensemble used.")
    unscored: Unscored | None = Field(description="Why the face has no emotion; null if scored.")


class FaceEvent(_Message):
    """Something that happened to one face."""

    event_id: UUID = Field(description="Unique; a message that is delivered twice has the same.")
    kind: EventKind = Field(description="What happened.")
    track_id: int = Field(description="Track of the face, as in the topic `faces`.")
    time: Timestamp = Field(
        description="Capture time of the frame with the event, in UTC; for `left`, of the last "
        "frame with the face. In a video file, times advance with the video."
    )
    position: float | None = Field(
        default=None, description="Position in the video file, in seconds; null without one."
    )
    file: str | None = Field(default=None, description="Name of the image file; null without one.")
    emotion: EmotionName | None = Field(
        description="Emotion from now on; for `left`, the last one. Null if never scored."
    )
    previous: EmotionName | None = Field(
        description="For `emotion_changed`, the emotion before; null if there was none."
    )
    started: Timestamp = Field(description="When the visit began: `time` minus `duration`.")
    duration: float = Field(description="Duration of the visit until `time`, in seconds.")
    probabilities: dict[str, float] | None = Field(
        description="Mean of the smoothed probabilities over the visit; null if never scored."
    )


class EventMessage(FaceEvent):
    """The payload of the topic `event`: kept on disk until the broker has acknowledged it."""

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    sequence: int = Field(
        ge=1,
        description="Number of the event on this device; a gap means that events were dropped.",
    )
    latency_ms: float = Field(
        description="Time from the capture of the frame to this event, in milliseconds."
    )


class FacesMessage(_Message):
    """One frame: the payload of the topic `faces`, and a line of the JSON output."""

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    time: Timestamp = Field(
        description="When the frame was captured, in UTC. In a video file, times advance with the "
        "video from its first frame."
    )
    position: float | None = Field(
        default=None, description="Position in the video file, in seconds; null without one."
    )
    file: str | None = Field(default=None, description="Name of the image file; null without one.")
    latency_ms: float = Field(description="Time from capture to this message, in milliseconds.")
    frame: int = Field(description="Number of the frame; dropped frames leave gaps.")
    width: int = Field(description="Width of the frame, in pixels.")
    height: int = Field(description="Height of the frame, in pixels.")
    faces: tuple[FaceMessage, ...] = Field(description="Visible faces, scored or not.")
    events: tuple[FaceEvent, ...] = Field(
        description="The same as on the topic `event`, with the same `event_id`."
    )


class StateMessage(_Message):
    """The payload of the topic `state`: the current state. Retained; only the latest counts."""

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    time: Timestamp = Field(description="Capture time of the latest frame.")
    faces: int = Field(description="Number of visible faces.")
    emotion: DominantEmotion = Field(
        description="The dominant emotion of all visible faces; `none` without a scored face, "
        "`uncertain` where the confidence is below `smoothing.uncertain_below`."
    )
    since: Timestamp = Field(description="When `emotion` became the dominant emotion.")
    probabilities: dict[str, float] | None = Field(
        description="Mean probabilities of all visible faces, weighted by area; null without a "
        "scored face."
    )
    paused: bool = Field(description="Whether the privacy switch has closed the camera.")


class LatencyMessage(_Message):
    """Latency from capture to publishing over the last minute, in milliseconds."""

    p50: float = Field(description="Median.")
    p95: float = Field(description="95th percentile.")


class EventQueueStatus(_Message):
    """The event queue: events that the broker has not acknowledged."""

    depth: int = Field(description="Number of queued events.")
    oldest_age_s: float = Field(description="Age of the oldest queued event, in seconds.")
    dropped: int = Field(
        description="Events dropped since the start: over the limits of number and age, refused by "
        "the broker, or too large for it."
    )
    durable: bool = Field(
        description="Whether queued events are on disk; false when the disk is full or fails."
    )


class HealthMessage(_Message):
    """The payload of the topic `health`: the state of the daemon. Retained."""

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    time: Timestamp = Field(description="Time of this message.")
    uptime_s: float = Field(description="Seconds since the start of the daemon.")
    version: str = Field(description="Version of the daemon.")
    bundle_id: str = Field(description="Version of the models.")
    source: SourceState = Field(description="State of the source.")
    fps_in: float = Field(
        description="Frames per second taken from the source, at most capture.fps, over the last "
        "minute."
    )
    fps_out: float = Field(
        description="Results per second over the last minute, before the limit `mqtt.rate`."
    )
    dropped: dict[str, int] = Field(
        description="Since the start: frames that each stage dropped because it was busy or "
        "failed, and messages that `mqtt` never sent."
    )
    latency_ms: LatencyMessage | None = Field(
        description="Latency from capture to publishing over the last minute, in milliseconds; "
        "null without a result in that minute."
    )
    cpu_temperature_c: float | None = Field(
        description="CPU temperature, in °C; null without a sensor."
    )
    throttled: tuple[str, ...] | None = Field(
        description="Current throttling by the firmware, such as `under_voltage`; null if it is "
        "not available."
    )
    memory_mb: float | None = Field(
        description="Resident memory of the daemon, in MB; null if unknown."
    )
    members_active: int = Field(description="Members of the ensemble in use.")
    members_total: int = Field(description="Members of the ensemble.")
    detection_interval: int = Field(
        description="Frames from one detection to the next; in between, the positions of faces "
        "are predicted."
    )
    stuck_services: tuple[str, ...] = Field(
        description="Services that hang, such as `commands` while the disk hangs, or have failed, "
        "such as `preview`."
    )
    event_queue: EventQueueStatus
    reconnects: int = Field(description="Number of reconnects to the broker since the start.")


def faces_payload(result: FrameResult, clock: Clock) -> bytes:
    """The result as one line of UTF-8 JSON."""
    late = clock.monotonic() - result.frame.captured_monotonic_s
    return faces_message(result, 1000 * late).model_dump_json(by_alias=True).encode()


def faces_message(result: FrameResult, latency_ms: float) -> FacesMessage:
    """The result as published on the topic `faces`."""
    frame = result.frame
    rows, columns, _ = frame.bgr.shape
    width, height = frame.reduction * columns, frame.reduction * rows
    return FacesMessage(
        time=frame.captured_at,
        position=_milliseconds(frame.position_s),
        file=_file_name(frame.file),
        latency_ms=round(latency_ms, 1),
        frame=frame.index,
        width=width,
        height=height,
        faces=tuple([_face_message(face, frame.reduction, width, height) for face in result.faces]),
        events=tuple(map(_event, result.events)),
    )


def event_message(event: Event, sequence: int, latency_ms: float) -> EventMessage:
    """The event as published on the topic `event`."""
    fields = dict(_event(event))
    return EventMessage(**fields, sequence=sequence, latency_ms=round(latency_ms, 1))


def _face_message(face: FaceEmotion, reduction: int, width: int, height: int) -> FaceMessage:
    probabilities = None if face.probabilities is None else rounded(face.probabilities)
    return FaceMessage(
        track_id=face.track_id,
        box=within(face.face.detection.scaled(reduction).box, width, height),
        score=round(face.face.detection.score, 3),
        emotion=face.emotion,
        confidence=None if probabilities is None else max(probabilities.values()),
        uncertain=face.uncertain,
        probabilities=probabilities,
        members=face.members,
        unscored=face.face.unscored,
    )


def _event(event: Event) -> FaceEvent:
    return FaceEvent(
        event_id=event.event_id,
        kind=event.kind,
        track_id=event.track_id,
        time=event.at,
        position=_milliseconds(event.position_s),
        file=_file_name(event.file),
        emotion=event.emotion,
        previous=event.previous,
        started=event.started,
        duration=event.duration,
        probabilities=None if event.probabilities is None else rounded(event.probabilities),
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _file_name(name: str | None) -> str | None:
    return None if name is None else encodable(name)


def within(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The part of a box inside the frame, in whole pixels."""
    left, top = min(width, max(0, round(box.x))), min(height, max(0, round(box.y)))
    right, bottom = min(width, round(box.x + box.width)), min(height, round(box.y + box.height))
    return left, top, max(0, right - left), max(0, bottom - top)


def rounded(probabilities: Probabilities) -> dict[str, float]:
    """The probabilities by name, rounded so that they sum to 1 and keep their order."""
    steps = 10**PROBABILITY_DIGITS
    # Not with numpy, which takes three times as long for seven numbers.
    values: dict[str, int] = {}
    excess: dict[str, float] = {}
    for name, probability in zip(EMOTIONS, probabilities.tolist(), strict=True):
        values[name] = math.floor(steps * probability)
        excess[name] = values[name] - steps * probability
    by_remainder = sorted(EMOTIONS, key=excess.__getitem__)
    for name in by_remainder[: steps - sum(values.values())]:
        values[name] += 1
    return {name: value / steps for name, value in values.items()}
