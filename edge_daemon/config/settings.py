"""All settings: one frozen model, whose sections are passed to the parts as they are."""

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from edge_daemon._lib.validation import (
    DEVICE_ID_PATTERN,
    MAX_DEVICE_ID_LENGTH,
    PATH_PATTERN,
    TOPIC_PATTERN,
    PlainModel,
    Share,
)
from edge_daemon.records import EMOTIONS

KeyPath = tuple[str, ...]
"""Path of a setting: its section, if any, and its key."""

DetectorName = Literal["auto", "bundled", "haar", "yunet"]

MAX_VALUE: Final = 1e9
"""Limit on seconds (30 years), pixels and counts, below what any library rejects."""

MIN_RATE_HZ: Final = 0.001

Positive = Annotated[float, Field(ge=1e-6, le=MAX_VALUE)]
NonNegative = Annotated[float, Field(ge=0, le=MAX_VALUE)]

RELOADABLE: Final[dict[str, Any]] = {"reloadable": True}
"""Marks a field whose changes take effect at SIGHUP; all others need a restart."""


def is_reloadable(field: FieldInfo) -> bool:
    """Whether a change of the setting takes effect at SIGHUP."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("reloadable"))


class Section(PlainModel):
    """A group of settings."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_flag(cls, value: object, info: ValidationInfo) -> object:
        """Pydantic takes true for the number 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and "bool" not in repr(annotation):
            raise ValueError("must not be true or false")
        return value


def _as_number(value: object) -> object:
    """Pydantic converts text from the command line for `int`, but not for a `Literal` of them."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Rotation = Annotated[Literal[0, 90, 180, 270], BeforeValidator(_as_number)]


def _expand_home(value: object) -> object:
    """Replace a leading `~` or `~USER` by the home directory, as shells do.

    Raises:
        ValueError: there is no such user.
    """
    if not isinstance(value, str) or not value.startswith("~"):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError:
        raise ValueError("unknown home directory; write the whole path, or ./~NAME") from None


LocalPath = Annotated[Path, BeforeValidator(_expand_home)]
"""A path of this machine, which may begin with `~`."""


class CaptureSettings(Section):
    """Capture: camera format, orientation, looping of files."""

    width: int = Field(
        1280, ge=16, le=8192, description="Frame width requested from a camera, in pixels."
    )
    height: int = Field(
        720, ge=16, le=8192, description="Frame height requested from a camera, in pixels."
    )
    fps: float = Field(
        15.0, ge=MIN_RATE_HZ, le=240, description="Maximum frames per second of a camera."
    )
    rotation: Rotation = Field(
        0,
        description="Clockwise rotation of frames, in degrees, after the flips. Also applies to "
        "files, as hflip and vflip do.",
    )
    hflip: bool = Field(default=False, description="Flip frames horizontally, like a mirror.")
    vflip: bool = Field(default=False, description="Flip frames vertically.")
    verify_certificate: bool = Field(
        default=True,
        description="Require a trusted certificate of an https or rtsps camera; set false for a "
        "self-signed one.",
    )
    read_timeout: Positive = Field(
        10.0,
        description="Seconds after which a read counts as stalled and the camera is opened again.",
    )
    loop: bool = Field(
        default=False,
        description="Play a file or folder repeatedly at its own rate, as if it were a camera. "
        "With the preview, the default is true.",
    )


class DetectionSettings(Section):
    """Face detection."""

    detector: DetectorName = Field(
        "auto",
        description="The detector: bundled, yunet, haar, or auto. With auto, the suffix of `model` "
        "decides; without `model` it is the bundled detector.",
    )
    model: LocalPath | None = Field(
        None,
        description="Model file for the detector: ONNX for yunet, an XML cascade for haar, or a "
        "detector.json of the trainer.",
        examples=["/srv/models/detector.json"],
    )
    max_side: int = Field(
        640,
        ge=64,
        le=8192,
        description="Longer side of the image for detection, in pixels; larger frames are scaled "
        "down.",
    )
    min_score: Share = Field(
        0.7,
        description="Minimum score of a new face, 0 to 1. A tracked face may score 0.2 less. Not "
        "for haar.",
    )
    interval: int = Field(
        3,
        ge=1,
        le=30,
        description="Maximum frames from one detection to the next. Below 10 frames per second it "
        "is reduced, so that the time between detections does not grow. Between detections, the "
        "positions of the faces are predicted; a failed appearance check triggers a detection.",
        json_schema_extra=RELOADABLE,
    )
    min_size: int = Field(
        24,
        ge=8,
        le=8192,
        description="Side of the smallest face that haar searches for, in pixels of the image for "
        "detection.",
    )


Point = tuple[Share, Share]
"""x and y in fractions of the frame's width and height."""

Polygon = tuple[Point, ...]


def _parsed(value: object) -> object:
    """The list in a text, as the environment and the command line give it."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of regions, such as [[0, 0, 0.3, 1]]")  # noqa: TRY004  # pydantic expects it
    return value


MIN_CORNERS: Final = 3
MAX_CORNERS: Final = 100


def _polygon(region: object) -> object:
    """A region's corners: of a rectangle `[left, top, right, bottom]`, or a polygon as it is."""
    if not isinstance(region, list | tuple):
        raise ValueError("must be [left, top, right, bottom] or [[x, y], [x, y], [x, y], ...]")  # noqa: TRY004  # pydantic expects it
    if not all(isinstance(value, int | float) for value in region):
        if not MIN_CORNERS <= len(region) <= MAX_CORNERS:
            raise ValueError(f"must have {MIN_CORNERS} to {MAX_CORNERS} corners")
        return region
    if len(region) != 4:
        raise ValueError("must have four numbers: left, top, right, bottom")
    left, top, right, bottom = region
    if not all(0 <= value <= 1 for value in region):
        raise ValueError("must have numbers from 0 to 1, as fractions of the frame")
    if left >= right or top >= bottom:
        raise ValueError("must have left < right and top < bottom")
    return (left, top), (right, top), (right, bottom), (left, bottom)


Region = Annotated[Polygon, BeforeValidator(_polygon)]
"""Corners of a polygon."""

Regions = Annotated[tuple[Region, ...], Field(max_length=100), BeforeValidator(_parsed)]


class ZoneSettings(Section):
    """Faces to ignore, by region and size."""

    min_face: NonNegative = Field(
        0.0,
        description="Minimum side of a face's box, in pixels of the frame.",
        json_schema_extra=RELOADABLE,
    )
    ignore: Regions = Field(
        (),
        description="Regions in which faces are ignored, such as a television or a poster: "
        "rectangles [left, top, right, bottom] or polygons [[x, y], ...], in fractions of the "
        "frame's width and height. A face is in a region if the centre of its box is. Example: "
        "[[0, 0, 0.3, 1], [[0.7, 0], [1, 0], [1, 0.5]]]",
        json_schema_extra=RELOADABLE,
    )


class QualitySettings(Section):
    """Which faces are good enough for an emotion; others are published with the reason."""

    min_face: NonNegative = Field(
        20.0,
        description="Minimum side of a face's crop, in pixels of the frame.",
        json_schema_extra=RELOADABLE,
    )
    min_sharpness: NonNegative = Field(
        0.008,
        description="Minimum sharpness: variance of the crop's Laplacian, divided by the variance "
        "of the crop.",
        json_schema_extra=RELOADABLE,
    )
    max_yaw: Positive = Field(
        0.6,
        description="Maximum yaw of the head: offset of the nose from the middle of the eyes, "
        "divided by the distance of the eyes. 0 is frontal, 0.5 half-profile.",
        json_schema_extra=RELOADABLE,
    )


class TrackingSettings(Section):
    """Tracking of faces between frames."""

    max_age: NonNegative = Field(
        2.0,
        description="Seconds for which a track continues while its face is not detected; for a "
        "camera at least three of its frame intervals.",
        json_schema_extra=RELOADABLE,
    )


CAMERA_SHARES: Final[Mapping[str, float]] = {
    "angry": 0.08,
    "disgust": 0.02,
    "fear": 0.05,
    "happy": 0.20,
    "sad": 0.10,
    "surprise": 0.05,
    "neutral": 0.50,
}
"""An estimate for people in front of a camera, who are mostly neutral; FER2013 has 17 % neutral."""

PRIOR_WORDS: Final = ("auto", "estimated", "none")
MIN_PRIOR: Final = 0.001


def _shares(text: str) -> dict[str, float]:
    shares = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        shares[name.strip()] = float(number)
    return shares


def _prior(text: str) -> str:
    """The text, which must be a word or give a share to each emotion.

    Raises:
        ValueError: it does not.
    """
    if text in PRIOR_WORDS:
        return text
    forms = (
        f"must be {', '.join(PRIOR_WORDS)}, "
        "or a share for each emotion, such as angry=0.08,disgust=0.02,…"
    )
    try:
        shares = _shares(text)
    except ValueError:
        raise ValueError(forms) from None
    if shares.keys() != set(EMOTIONS) or text.count("=") != len(EMOTIONS):
        raise ValueError(forms)
    if not all(MIN_PRIOR <= share <= 1 for share in shares.values()):
        raise ValueError(f"must give each emotion a share from {MIN_PRIOR} to 1")
    return text


Prior = Annotated[str, AfterValidator(_prior)]
"""Expected shares of the emotions."""


class InferenceSettings(Section):
    """Inference: emotion models, threads, expected emotions."""

    bundle: LocalPath | None = Field(
        None,
        description="Folder of a model bundle; unset: the bundled models.",
        examples=["/var/lib/edge-daemon/models"],
    )
    threads: int = Field(1, ge=1, le=64, description="Threads of the models and the detector.")
    prior: Prior = Field(
        "auto",
        description="Expected share of each emotion, such as "
        f"{','.join(f'{emotion}={share:g}' for emotion, share in CAMERA_SHARES.items())}. none: "
        "the shares of the training data, where few faces are neutral. auto: the shares above for "
        "cameras and videos, none for images. estimated: first as auto; for cameras and videos, "
        "the shares then adapt to the faces of the last hours.",
    )

    @property
    def prior_shares(self) -> dict[str, float] | None:
        """The shares in `prior`; None where it is a word."""
        return None if self.prior in PRIOR_WORDS else _shares(self.prior)


class SheddingSettings(Section):
    """Load shedding: less work when the machine is overloaded or hot. Never for files."""

    enabled: bool = Field(default=True, description="Enable load shedding.")
    budget: Positive | None = Field(
        None,
        description="Time for the emotions of one frame, in seconds; beyond it, fewer members "
        "of the ensemble are used. Unset: the frame interval at capture.fps.",
        examples=[0.05],
        json_schema_extra=RELOADABLE,
    )
    max_temperature: float = Field(
        75.0,
        ge=30,
        le=120,
        description="Maximum CPU temperature in °C. Above it, or while the firmware throttles, "
        "load shedding first uses fewer members of the ensemble, then increases "
        "detection.interval.",
        json_schema_extra=RELOADABLE,
    )
    max_interval: int = Field(
        5,
        ge=1,
        le=30,
        description="Maximum to which load shedding increases detection.interval.",
        json_schema_extra=RELOADABLE,
    )


class SmoothingSettings(Section):
    """Smoothing of the probabilities over time."""

    time_constant: NonNegative = Field(
        0.5,
        description="Time constant of the exponential smoothing, in seconds; 0: no smoothing.",
        json_schema_extra=RELOADABLE,
    )
    uncertain_below: Share = Field(
        0.5,
        description="Confidence below which an emotion is flagged as uncertain.",
        json_schema_extra=RELOADABLE,
    )


class EventSettings(Section):
    """Events: conditions for `appeared` and `emotion_changed`."""

    appear_after: NonNegative = Field(
        0.5,
        description="Seconds for which a face must be tracked until its event `appeared`.",
        json_schema_extra=RELOADABLE,
    )
    margin: Share = Field(
        0.1,
        description="Minimum lead in probability of a new emotion over the current one.",
        json_schema_extra=RELOADABLE,
    )
    dwell: NonNegative = Field(
        0.6,
        description="Seconds for which a new emotion must lead until the event `emotion_changed`.",
        json_schema_extra=RELOADABLE,
    )


def systemd_password() -> Path | None:
    """The file of systemd's credential (`LoadCredential=mqtt-password:…`), if there is one."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(directory, "mqtt-password") if directory else None
    return file if file is not None and file.is_file() else None


SCHEMES: Final = {
    "mqtt": "",
    "tcp": "",
    "mqtts": ", mqtt.tls to true",
    "ssl": ", mqtt.tls to true",
    "ws": ", mqtt.transport to websockets",
    "wss": ", mqtt.transport to websockets, mqtt.tls to true",
}
"""Schemes of broker addresses, and the settings that they correspond to."""


def _broker_host(text: str) -> str:
    """A host name or IP address, without brackets; refuses what belongs into other settings."""
    text = text.strip()
    is_ipv6 = text.count(":") > 1 and not re.search(r"/|@|\]:", text)
    if is_ipv6 or not re.search(r"[:/@?#]", text):
        if not (host := text.strip("[]")):
            raise ValueError("must be a host name or an IP address")
        return host
    scheme, _, rest = text.rpartition("://")
    fix = ""
    with contextlib.suppress(ValueError):
        parts = urlsplit(f"//{rest}")
        port = f", mqtt.port to {parts.port}" if parts.port else ""
        if parts.hostname and "@" not in rest[len(parts.netloc) :]:
            fix = f"; set mqtt.host to {parts.hostname}{port}{_login_fix(parts)}"
            fix += SCHEMES.get(scheme.lower(), "")
    raise ValueError(f"must be a host name or an IP address{fix}")


def _login_fix(address: SplitResult) -> str:
    """Where the user name and the password of an address belong; without the password itself."""
    username = f", mqtt.username to {unquote(address.username)}" if address.username else ""
    password = ", mqtt.password_file to a file with the password" if address.password else ""
    return username + password


class MqttSettings(Section):
    """MQTT: the broker, the topics, the event queue."""

    host: Annotated[str, AfterValidator(_broker_host)] = Field(
        "localhost", min_length=1, max_length=253, description="Name or address of the broker."
    )
    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of the broker; unset: 1883, or 8883 with TLS; for WebSockets 80, or 443 "
        "with TLS.",
        examples=[8883],
    )
    transport: Literal["tcp", "websockets"] = Field(
        "tcp", description="tcp, or websockets, such as for a broker behind an HTTP proxy."
    )
    websocket_path: str = Field(
        "/mqtt",
        max_length=1000,
        pattern=PATH_PATTERN,
        description="Path of the broker's address for WebSockets.",
    )
    websocket_headers_file: LocalPath | None = Field(
        None,
        description="A file with HTTP headers for WebSockets, such as Authorization; one line "
        "NAME: VALUE for each.",
        examples=["/etc/edge-daemon/websocket-headers"],
    )
    client_id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="MQTT client ID, unique at the broker; unset: edge-daemon-, the device_id and "
        "a hash of the machine's ID.",
        examples=["porch-camera"],
    )
    username: str | None = Field(
        None,
        max_length=1000,
        description="User name at the broker; unset: anonymous.",
        examples=["edge-daemon"],
    )
    password_file: LocalPath | None = Field(
        default_factory=systemd_password,
        description="A file with the password in its first line, never the password itself; "
        "unset: with mqtt.username, systemd's credential mqtt-password, if there is one.",
        examples=["/etc/edge-daemon/mqtt-password"],
    )
    tls: bool = Field(default=False, description="Use TLS and verify the broker's certificate.")
    ca_file: LocalPath | None = Field(
        None,
        description="Certificates to trust, as PEM; unset: the system's.",
        examples=["/etc/edge-daemon/ca.pem"],
    )
    certificate_file: LocalPath | None = Field(
        None,
        description="This device's own certificate, as PEM, if the broker requires one.",
        examples=["/etc/edge-daemon/device.pem"],
    )
    key_file: LocalPath | None = Field(
        None,
        description="Private key of `certificate_file`, without a password; unset: it is in that "
        "file.",
        examples=["/etc/edge-daemon/device.key"],
    )
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        "auto", description="Version of MQTT; auto: 5, or 3.1.1 if the broker refuses 5."
    )
    keepalive: int = Field(30, ge=5, le=65535, description="MQTT keep-alive interval, in seconds.")
    will_delay: int = Field(
        5,
        ge=0,
        le=3600,
        description="Seconds from a lost connection until the broker publishes the will (MQTT 5).",
    )
    session_expiry: int = Field(
        3600,
        ge=0,
        le=604800,
        description="Seconds for which the broker keeps commands for a disconnected device.",
    )
    base_topic: str = Field(
        "edge-daemon",
        max_length=1000,
        min_length=1,
        pattern=TOPIC_PATTERN,
        description="Prefix of all topics.",
    )
    rate: float = Field(
        5.0,
        ge=MIN_RATE_HZ,
        le=1000,
        description="Maximum results per second; a result with an event is always published.",
        json_schema_extra=RELOADABLE,
    )
    heartbeat: Positive = Field(
        20.0,
        description="Maximum seconds between two state messages while the device is online; "
        "with homeassistant.discovery at most a third of homeassistant.expire_after.",
    )
    stale_after: Positive = Field(
        15.0,
        description="Seconds without a result after which the device publishes offline; for a "
        "camera at least three frame intervals of capture.fps.",
    )
    queue_max_events: int = Field(
        100_000,
        ge=1,
        le=1_000_000_000,
        description="Maximum number of queued events; beyond it, the oldest are dropped.",
    )
    queue_max_age: Positive = Field(
        604800.0,
        description="Maximum age of a queued event, in seconds; older ones are dropped. Time "
        "during which the daemon does not run does not count.",
    )


class HealthSettings(Section):
    """Health messages."""

    interval: float = Field(
        30.0,
        ge=1,
        le=86400,
        description="Seconds between two messages on the topic health; with "
        "homeassistant.discovery at most a third of homeassistant.expire_after. A change of the "
        "source's state is published at once.",
        json_schema_extra=RELOADABLE,
    )


METRICS_ADDRESS: Final = "127.0.0.1:9469"
PREVIEW_ADDRESS: Final = "127.0.0.1:8469"


def _host_and_port(text: str, example: str) -> str:
    """The text, which must be a host name or address and a port.

    Raises:
        ValueError: it is not.
    """
    try:
        parts = urlsplit(f"//{text}")
        complete = parts.netloc == text and "@" not in text and parts.hostname and parts.port
    except ValueError:
        complete = False
    if not complete:
        raise ValueError(f"must be HOST:PORT; write {example}")
    return text


def _listen_validator(example: str) -> AfterValidator:
    return AfterValidator(lambda text: _host_and_port(text, example))


class ServerSettings(Section):
    """What is served at an address."""

    listen: str | None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of `listen`."""
        parts = urlsplit(f"//{self.listen or ''}")
        return (parts.hostname, parts.port) if parts.hostname and parts.port else None


class MetricsSettings(ServerSettings):
    """Prometheus metrics over HTTP: the figures of the topic `health`."""

    listen: Annotated[str, _listen_validator(METRICS_ADDRESS)] | None = Field(
        None,
        description="HOST:PORT to listen on, such as 127.0.0.1:9469, or 0.0.0.0:9469 for all "
        "interfaces; there is no password. Unset: disabled.",
        examples=[METRICS_ADDRESS],
    )
    include_emotions: bool = Field(
        default=False,
        description="Also export results: faces by emotion, and events by kind.",
    )


class PreviewSettings(ServerSettings):
    """Live page for a browser."""

    listen: Annotated[str, _listen_validator(PREVIEW_ADDRESS)] | None = Field(
        None,
        description="HOST:PORT to listen on. Addresses other than loopback require a token. Unset: "
        "disabled.",
        examples=[PREVIEW_ADDRESS],
    )
    fps: float = Field(
        12.0,
        ge=MIN_RATE_HZ,
        le=60,
        description="Maximum frames per second sent to the page; none are encoded without a "
        "client.",
    )


class HomeAssistantSettings(Section):
    """Home Assistant MQTT discovery."""

    discovery: bool = Field(
        default=True,
        description="Publish the device's discovery message; false: remove the device.",
    )
    prefix: str = Field(
        "homeassistant",
        max_length=1000,
        min_length=1,
        pattern=TOPIC_PATTERN,
        description="Prefix of the discovery topics, as in the options of Home Assistant's MQTT "
        "integration.",
    )
    name: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Name of the device in Home Assistant; unset: its device_id.",
        examples=["Kitchen camera"],
    )
    expire_after: int = Field(
        90,
        ge=15,
        le=86400,
        description="Seconds without a message after which Home Assistant shows an entity as "
        "unavailable.",
    )


def default_state_dir() -> Path:
    """The state folder: systemd's for a service, else the user's."""
    if directory := os.environ.get("STATE_DIRECTORY"):
        return Path(directory.partition(":")[0])
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "edge-daemon"


def default_device_id() -> str:
    """The host name, without characters that are not allowed in topics."""
    name = socket.gethostname().partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "-", name) or "device"


class Settings(Section):
    """All settings."""

    source: Annotated[str, BeforeValidator(_expand_home)] = Field(
        "picamera",
        min_length=1,
        description="Source of frames: picamera, /dev/videoN, N, rtsp://…, http://…, a video, an "
        "image, or a folder of images.",
    )
    sink: Literal["mqtt", "jsonl", "none"] = Field(
        "mqtt",
        description="Where results go: mqtt, jsonl (lines of JSON on standard output), or none. "
        "With the preview, the default is none unless mqtt.host is set. With --output or "
        "--summary, it is none, unless --sink is on the command line.",
    )
    device_id: str = Field(
        default_factory=default_device_id,
        max_length=MAX_DEVICE_ID_LENGTH,
        min_length=1,
        pattern=DEVICE_ID_PATTERN,
        description="Name of this device in topics: letters, digits, _ and -; unset: the host "
        "name.",
        examples=["kitchen"],
    )
    state_dir: LocalPath = Field(
        default_factory=default_state_dir,
        description="Folder for queued events, the pause state and downloaded models; unset: "
        "systemd's state folder of a service, or ~/.local/state/edge-daemon.",
        examples=["/var/lib/edge-daemon"],
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum log level.", json_schema_extra=RELOADABLE
    )
    capture: CaptureSettings = CaptureSettings()
    detection: DetectionSettings = DetectionSettings()
    zones: ZoneSettings = ZoneSettings()
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
    """Sections of a model by key."""
    return {
        key: field.annotation
        for key, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def leaves(tree: Mapping[str, object], parent: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """All values of a tree of settings with their paths."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*parent, key))
        else:
            yield (*parent, key), value
