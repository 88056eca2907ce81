"""All settings: one frozen model, whose sections the parts take as they are."""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from edge_daemon._lib.validation import PlainModel, Share

KeyPath = tuple[str, ...]
"""Where a setting stands: its section, if it is in one, and its key."""

DetectorName = Literal["auto", "bundled", "haar", "yunet"]

LARGEST: Final = 1e9
"""Seconds (30 years), pixels and whatever else is counted: less than any library refuses."""

SELDOM: Final = 0.001
"""Times a second: the lowest rate of anything."""

Positive = Annotated[float, Field(ge=1e-6, le=LARGEST)]
Duration = Annotated[float, Field(ge=0, le=LARGEST)]


def default_state_dir() -> Path:
    """Where to keep files: systemd's choice for a service, else the user's state folder."""
    if directory := os.environ.get("STATE_DIRECTORY"):
        return Path(directory.partition(":")[0])
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "edge-daemon"


def systemd_password() -> Path | None:
    """The password that systemd hands to a service (`LoadCredential=mqtt-password:…`)."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(directory, "mqtt-password") if directory else None
    return file if file is not None and file.is_file() else None


def default_device_id() -> str:
    """The host's name, without what a topic may not hold."""
    name = socket.gethostname().partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "-", name) or "device"


def _host_and_port(text: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        complete = parts.netloc == text and "@" not in text and parts.hostname and parts.port
    except ValueError:
        complete = False
    if not complete:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:9469")
    return text


Listen = Annotated[str, AfterValidator(_host_and_port)] | None
"""Where to serve something; None: nowhere."""


class Section(PlainModel):
    """Settings that belong together."""


class CaptureSettings(Section):
    """Cameras."""

    width: int = Field(1280, ge=16, le=8192, description="Width asked of a camera, in pixels.")
    height: int = Field(720, ge=16, le=8192, description="Height asked of a camera, in pixels.")
    fps: float = Field(
        15.0, ge=SELDOM, le=240, description="Frames a second taken from a camera at most."
    )
    read_timeout: Positive = Field(
        10.0,
        description="Seconds after which a hanging read is given up, and the camera opened anew.",
    )
    loop: bool = Field(
        default=False,
        description="Whether a file or folder takes a camera's place: played at its own pace, "
        "again and again; with the preview, true unless said otherwise.",
    )


class DetectionSettings(Section):
    """Finding faces."""

    detector: DetectorName = Field(
        "auto", description="bundled, yunet, haar, or auto: the bundled one, or what reads `model`."
    )
    model: Path | None = Field(
        None,
        description="A detector file of your own: ONNX for YuNet, an XML cascade for Haar, or a "
        "detector.json by the trainer.",
    )
    max_side: int = Field(
        640,
        ge=64,
        le=8192,
        description="Larger pictures are reduced to this longer side, in pixels, before detection.",
    )
    min_score: Share = Field(
        0.7,
        description="The least score of a new face, 0 to 1; 0.2 less for a followed one. Not Haar.",
    )
    every: int = Field(
        3,
        ge=1,
        le=30,
        description="Frames from one detection to the next at most; in between, faces are taken "
        "to be where they were going, as long as they look like themselves there.",
    )
    min_size: int = Field(
        24,
        ge=8,
        le=8192,
        description="Side of the smallest face to look for, in pixels as detected (Haar).",
    )


class QualitySettings(Section):
    """Which faces are good enough for an emotion; others are published as seen, with the reason."""

    min_face: Duration = Field(20.0, description="Least side of a face's crop, in frame pixels.")
    min_sharpness: Duration = Field(
        0.004,
        description="Least variance of the crop's Laplacian, as a part of the crop's variance.",
    )
    max_turn: Positive = Field(
        0.6,
        description="Most turn of a head: the nose's way from the eyes' middle, in eye distances.",
    )


class TrackingSettings(Section):
    """Following faces."""

    memory: Duration = Field(
        2.0, description="Seconds for which a face out of sight may come back as the same."
    )


class InferenceSettings(Section):
    """Reading emotions."""

    bundle: Path | None = Field(
        None, description="Folder of a model bundle; unset: the bundled one."
    )
    threads: int = Field(1, ge=1, le=64, description="Threads of the models and of the detector.")


class SheddingSettings(Section):
    """Doing less where the machine cannot keep up with a camera, or gets hot; never for files."""

    enabled: bool = Field(default=True, description="Whether it is done at all.")
    budget: Positive | None = Field(
        None,
        description="Seconds that reading a frame's emotions may take, else fewer models are "
        "asked; unset: as long as a frame lasts at capture.fps.",
    )
    max_temperature: float = Field(
        75.0,
        ge=30,
        le=120,
        description="Degrees Celsius of the CPU that are too hot, as is a firmware that throttles: "
        "then fewer models are asked, and in the end detection.every is raised.",
    )
    max_every: int = Field(
        5,
        ge=1,
        le=30,
        description="To what detection.every is raised at most, there and where a stage cannot "
        "keep up.",
    )


class SmoothingSettings(Section):
    """Steadying emotions over time."""

    time_constant: Duration = Field(
        0.5, description="Seconds after which a change is through to 63 %; 0: no smoothing."
    )
    uncertain_below: Share = Field(
        0.4, description="Confidence under which an emotion is flagged as uncertain."
    )


class EventSettings(Section):
    """What counts as an event."""

    appear_after: Duration = Field(
        0.5, description="Seconds for which a face must be followed before it has appeared."
    )
    margin: Share = Field(0.1, description="By how much in probability a new emotion must lead …")
    dwell: Duration = Field(0.6, description="… and for how many seconds.")


class MqttSettings(Section):
    """The broker."""

    host: str = Field(
        "localhost", min_length=1, max_length=253, description="Name or address of the broker."
    )
    port: int | None = Field(
        None, ge=1, le=65535, description="Its port; unset: 1883, or 8883 with TLS."
    )
    username: str | None = Field(None, max_length=1000, description="User name; unset: anonymous.")
    password_file: Path | None = Field(
        default_factory=systemd_password,
        description="A file with the password in its first line, never the password itself; "
        "unset: systemd's credential mqtt-password, if there is one.",
    )
    tls: bool = Field(default=False, description="Encrypt, and check the broker's certificate.")
    ca_file: Path | None = Field(
        None, description="Certificates to trust, as PEM; unset: the system's."
    )
    certificate_file: Path | None = Field(
        None, description="This device's own certificate, as PEM, where the broker asks for one."
    )
    key_file: Path | None = Field(
        None, description="Its private key, without a password; unset: in the same file."
    )
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        "auto", description="Version of MQTT; auto: 5, or 3.1.1 where the broker refuses that."
    )
    keepalive: int = Field(30, ge=5, le=65535, description="Seconds between two signs of life.")
    will_delay: int = Field(
        5,
        ge=0,
        le=3600,
        description="Seconds of absence until the broker tells that the device is gone (MQTT 5).",
    )
    session_expiry: int = Field(
        3600,
        ge=0,
        le=604800,
        description="Seconds for which the broker keeps commands for a device that is away.",
    )
    base_topic: str = Field(
        "edge-daemon",
        max_length=1000,
        pattern=r"^[^+#\x00]+$",
        description="What all topics begin with.",
    )
    rate: float = Field(
        5.0,
        ge=SELDOM,
        le=1000,
        description="Results a second at most; a result with an event always goes.",
    )
    heartbeat: Positive = Field(
        20.0, description="Seconds after which the state is told again though nothing changed."
    )
    stale_after: Positive = Field(
        15.0, description="Seconds without a result after which the device is told to be offline."
    )
    spool_max_events: int = Field(
        100_000,
        ge=1,
        le=1_000_000_000,
        description="Events kept on disk at most while the broker is away; then the oldest go.",
    )
    spool_max_age: Positive = Field(
        604800.0, description="Seconds for which they are kept, not counting those switched off."
    )


class HealthSettings(Section):
    """How the daemon is."""

    interval: float = Field(
        30.0,
        ge=1,
        le=86400,
        description="Seconds between two messages on the topic health; a change of the source's "
        "state is told at once.",
    )


class ServerSettings(Section):
    """What is served at an address."""

    listen: Listen

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of `listen`."""
        parts = urlsplit(f"//{self.listen or ''}")
        return (parts.hostname, parts.port) if parts.hostname and parts.port else None


class MetricsSettings(ServerSettings):
    """The same figures, for Prometheus to fetch over HTTP."""

    listen: Listen = Field(
        None,
        description="Where to serve them, such as 127.0.0.1:9469, or 0.0.0.0:9469 for the whole "
        "network; unset: nowhere.",
    )
    include_emotions: bool = Field(
        default=False,
        description="Also export what the camera sees: faces by emotion, and events by kind.",
    )


class PreviewSettings(ServerSettings):
    """A page with the picture and all that is seen in it."""

    listen: Listen = Field(
        None,
        description="Where to serve it, such as 127.0.0.1:8469; an address that others can reach, "
        "such as 0.0.0.0:8469, asks them for a token; unset: nowhere.",
    )
    fps: float = Field(
        12.0,
        ge=SELDOM,
        le=60,
        description="Pictures a second at most, and only while someone watches.",
    )


class HomeAssistantSettings(Section):
    """Home Assistant, in which the device appears by itself."""

    discovery: bool = Field(
        default=True,
        description="Whether the device shows itself there; false takes it away again.",
    )
    prefix: str = Field(
        "homeassistant",
        max_length=1000,
        pattern=r"^[^+#\x00]+$",
        description="What its discovery topics begin with: the prefix that is set there.",
    )
    name: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="The device's name there; unset: its device_id.",
    )
    expire_after: int = Field(
        90,
        ge=15,
        le=86400,
        description="Seconds without news after which it shows a value as unavailable.",
    )


class Settings(Section):
    """All settings. The defaults run a clip on a fresh machine."""

    source: str = Field(
        "picamera",
        min_length=1,
        description="picamera, /dev/videoN, N, rtsp://…, a video, a picture, or a folder of them.",
    )
    sink: Literal["mqtt", "jsonl", "none"] = Field(
        "mqtt",
        description="mqtt; jsonl: lines of JSON on standard output; or none. With the preview, "
        "none unless this or mqtt.host is said.",
    )
    device_id: str = Field(
        default_factory=default_device_id,
        max_length=100,  # it is a part of files' names
        pattern=r"^[A-Za-z0-9_-]+$",
        description="This device's name in topics; unset: the host's name.",
    )
    state_dir: Path = Field(
        default_factory=default_state_dir,
        description="Folder for what is kept, such as detectors; unset: the system's usual place.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important messages to log."
    )
    capture: CaptureSettings = CaptureSettings()
    detection: DetectionSettings = DetectionSettings()
    quality: QualitySettings = QualitySettings()
    tracking: TrackingSettings = TrackingSettings()
    inference: InferenceSettings = InferenceSettings()
    shedding: SheddingSettings = SheddingSettings()
    smoothing: SmoothingSettings = SmoothingSettings()
    events: EventSettings = EventSettings()
    mqtt: MqttSettings = Field(default_factory=MqttSettings)
    health: HealthSettings = HealthSettings()
    metrics: MetricsSettings = MetricsSettings()
    preview: PreviewSettings = PreviewSettings()
    homeassistant: HomeAssistantSettings = HomeAssistantSettings()


def subsections(model: type[Section]) -> dict[str, type[Section]]:
    """The sections of a model, by key."""
    return {
        key: field.annotation
        for key, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def leaves(tree: Mapping[str, object], parent: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """All values of a tree of settings, with their paths."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*parent, key))
        else:
            yield (*parent, key), value
