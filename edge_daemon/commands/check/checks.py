"""Checks and their findings: the broker, the models and the machine."""

import ctypes
import errno
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Final, Self

import numpy as np

from edge_daemon._lib.files import bundled_models, sha256_of
from edge_daemon._lib.tflite import interpreter_type
from edge_daemon.config.settings import Settings
from edge_daemon.detection import detector_from_settings
from edge_daemon.detection.yunet import YUNET
from edge_daemon.errors import BrokerError, DetectorError
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.monitoring.hardware import Hardware, Throttling
from edge_daemon.publishing.broker import broker_from
from edge_daemon.publishing.client import publish_single
from edge_daemon.publishing.messages import Message, Topics
from edge_daemon.records import CROP_SIDE


class Level(StrEnum):
    """Severity."""

    OK = "ok"
    WARN = "warn"
    """Something is missing or wrong, but the program runs."""
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """A level, and a line with the reason; for a problem, also with the fix."""

    level: Level
    message: str

    @classmethod
    def ok(cls, message: str) -> Self:
        return cls(Level.OK, message)

    @classmethod
    def warn(cls, message: str) -> Self:
        return cls(Level.WARN, message)

    @classmethod
    def fail(cls, message: str) -> Self:
        return cls(Level.FAIL, message)


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    run: Callable[[Settings], Finding]
    """Can raise any EdgeDaemonError, whose message is then the finding."""
    limit_s: float = 10.0
    """Time after which the check has failed."""


def check_broker(settings: Settings) -> Finding:
    """Log in with another client ID, not to disconnect the daemon, and publish an empty message."""
    broker = broker_from(settings.mqtt)
    topics = Topics(settings.mqtt.base_topic, settings.device_id)
    try:
        version = publish_single(broker, Message(topics.check, b"", qos=1))
    except BrokerError as error:
        return Finding.fail(str(error).removeprefix("broker "))
    encrypted = "with TLS" if broker.tls else "without TLS"
    if version != "5":
        # MQTT 3.1.1 cannot refuse a message.
        return Finding.ok(f"{broker.address}: login accepted, MQTT {version}, {encrypted}")
    return Finding.ok(f"{broker.address}: messages accepted, MQTT {version}, {encrypted}")


IMAGE_SHAPE: Final = (240, 320, 3)


def check_bundle(settings: Settings) -> Finding:
    """Check the manifest and the checksums of the models."""
    folder = settings.inference.bundle or bundled_models()
    bundle = read_bundle(folder)
    metrics = bundle.ensemble.metrics
    files = {member.file for member in bundle.members}
    return Finding.ok(
        f"{len(files)} model files, {len(bundle.members)} ensemble members, checksums correct, "
        f"{100 * metrics.accuracy:.1f} % on {metrics.split}, {bundle.bundle_id} in {folder}"
    )


def check_runtime(settings: Settings) -> Finding:
    """Check that the models run on this machine."""
    options = settings.inference
    ensemble = EmotionEnsemble.load(options.bundle, options.threads)
    face = np.zeros((1, CROP_SIDE, CROP_SIDE), np.uint8)
    ensemble.predict(face)  # the first run is slower
    began = time.perf_counter()
    ensemble.predict(face)
    milliseconds = 1000 * (time.perf_counter() - began)
    package = interpreter_type().__module__.partition(".")[0].replace("_", "-")
    return Finding.ok(
        f"{package} {metadata.version(package)} takes {milliseconds:.1f} ms a face "
        f"for {len(ensemble)} ensemble members"
    )


def check_detector(settings: Settings) -> Finding:
    """Check the detector's file, and that it processes an image."""
    if settings.detection.model is None and settings.detection.detector == "yunet":
        _check_fetched(settings.state_dir / YUNET.file)
    detector = detector_from_settings(settings)
    detector.detect(np.zeros(IMAGE_SHAPE, np.uint8))
    return Finding.ok(detector.name)


def _check_fetched(file: Path) -> None:
    if file.is_file() and sha256_of(file) != YUNET.sha256:
        raise DetectorError(f"{file}: wrong checksum; run 'edge-daemon models fetch yunet'")


ENOUGH_SPACE: Final = 200_000_000
"""Bytes: events of a long outage of the broker, and the database's log."""

TIMESYNCD: Final = Path("/run/systemd/timesync/synchronized")
"""Exists once systemd-timesyncd has set the clock (systemd-timesyncd.service(8))."""

TIMEX_SIZE: Final = 512
"""Bytes; a `struct timex` has 208 on 64-bit Linux."""

TIME_ERROR: Final = 5
"""adjtimex(2): the clock is not synchronised."""

SYSTEMD: Final = Path("/run/systemd/system")
"""Exists if systemd runs (sd_booted(3))."""

POWER_HINTS: Final = {
    Throttling.UNDER_VOLTAGE: "use a stronger power supply",
    Throttling.FREQUENCY_CAPPED: "cool the board, or use a stronger power supply",
    Throttling.THROTTLED: "cool the board",
    Throttling.SOFT_TEMPERATURE_LIMIT: "cool the board",
}


def check_state_folder(settings: Settings) -> Finding:
    """Check that events and the pause state can be saved."""
    folder = settings.state_dir
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"written")
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        fix = "free some space" if is_full else "change the folder or its permissions"
        return Finding.fail(
            f"state_dir: not writable, so events and the pause state are lost at exit (got "
            f"{folder}: {error.strerror}); {fix}"
        )
    free = shutil.disk_usage(there).free
    space = f"{folder}: {free / 1e6:,.0f} MB free"
    if free < ENOUGH_SPACE:
        return Finding.warn(
            f"{space}; free some space, or events can be lost while the broker is away"
        )
    return Finding.ok(space)


def check_clock(_settings: Settings) -> Finding:
    """Check that times in messages are right."""
    if TIMESYNCD.exists():
        return Finding.ok("synchronised by systemd-timesyncd")
    if _synchronised_by_kernel():
        return Finding.ok("synchronised according to the kernel")
    return Finding.warn("not synchronised, so times in messages can be wrong; see timedatectl")


def check_board(_settings: Settings) -> Finding:
    """Check that the firmware does not throttle the CPU now."""
    board = Hardware()
    temperature, throttled = board.cpu_temperature(), board.throttled()
    warmth = "" if temperature is None else f", {temperature:.0f} degrees Celsius"
    if throttled is None:
        return Finding.ok(f"no Raspberry Pi, throttling unknown{warmth}")
    if throttled:
        hint = POWER_HINTS[Throttling[throttled[0].upper()]]
        return Finding.warn(f"{', '.join(throttled)}{warmth}; {hint}")
    return Finding.ok(f"not throttled{warmth}")


def check_systemd(_settings: Settings) -> Finding:
    """Check that its Python package is available, where systemd runs."""
    if not SYSTEMD.is_dir():
        return Finding.ok("not running here")
    if importlib.util.find_spec("systemd") is None:
        return Finding.warn(
            "Python package not available; apt install python3-systemd, and create the virtual "
            "environment with --system-site-packages"
        )
    return Finding.ok("Python package available")


def _synchronised_by_kernel() -> bool:
    """Whether adjtimex(2) reports a synchronised clock."""
    state: int = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(TIMEX_SIZE))
    return 0 <= state < TIME_ERROR
