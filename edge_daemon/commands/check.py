"""`edge-daemon check`: whether everything a run needs works. `checks_for` is the registry.

The checks run one after another, and each prints a line at once.
"""

import ctypes
import errno
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np

from edge_daemon._lib.files import bundled_models, sha256_of
from edge_daemon._lib.text import masked, printable, without_password
from edge_daemon._lib.tflite import interpreter_type
from edge_daemon.capture import CapturedFrame, Source, pause_from_settings, source_from_settings
from edge_daemon.capture.devices import VideoDevice
from edge_daemon.capture.picamera import PiCamera
from edge_daemon.capture.wrappers import Oriented
from edge_daemon.config.settings import Settings
from edge_daemon.detection import detector_from_settings
from edge_daemon.detection.yunet import YUNET
from edge_daemon.errors import (
    FINITE_COMMANDS,
    BrokerError,
    DetectorError,
    EdgeDaemonError,
    SourceError,
    in_one_line,
)
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.monitoring.hardware import Hardware, Throttling
from edge_daemon.pipeline import in_thread
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


class CheckResult(NamedTuple):
    """The result of a check."""

    check: str
    finding: Finding


def checks_for(settings: Settings) -> list[Check]:
    """The checks for these settings, in order."""
    broker = [Check("broker", check_broker, limit_s=25.0)] if settings.sink == "mqtt" else []
    return [
        Check("bundle", check_bundle),
        Check("runtime", check_runtime, limit_s=30.0),
        Check("detector", check_detector),
        Check("source", check_source, limit_s=20.0),
        *broker,
        Check("state", check_state_folder),
        Check("clock", check_clock),
        Check("board", check_board),
        Check("systemd", check_systemd),
    ]


def run(settings: Settings, file: Path | None, *, as_json: bool) -> bool:
    """Run all checks.

    Args:
        settings: what a run would use.
        file: the settings file, if there is one.
        as_json: print one object instead of lines.

    Returns:
        Whether no check failed.
    """
    return report(outcomes(settings, file), as_json=as_json)


def refuse(problems: Iterable[str], *, as_json: bool) -> bool:
    """Report invalid settings, without which no check is possible."""
    return report((CheckResult("settings", Finding.fail(it)) for it in problems), as_json=as_json)


def outcomes(settings: Settings, file: Path | None) -> Iterator[CheckResult]:
    source = without_password(settings.source)
    place = file or "no settings file, defaults"
    yield CheckResult("settings", Finding.ok(f"{place}; source {source}, sink {settings.sink}"))
    for check in checks_for(settings):
        yield CheckResult(check.name, finding_of(check, settings))


def finding_of(check: Check, settings: Settings) -> Finding:
    """Run a check; one that exceeds its limit is abandoned in its thread."""
    running = in_thread(f"check-{check.name}", partial(check.run, settings))
    wait([running], check.limit_s)
    if not running.done():
        return Finding.fail(f"no result after {check.limit_s:g} s")
    try:
        return running.result()
    except EdgeDaemonError as error:
        return Finding.fail(masked("; ".join(str(error).splitlines())))
    except Exception as error:  # noqa: BLE001  # a bug must not hide the other results
        return Finding.fail(in_one_line(error))


def report(results: Iterable[CheckResult], *, as_json: bool) -> bool:
    """Print the results; returns whether no check failed."""
    printed = []
    for outcome in results:
        printed.append(outcome)
        if not as_json:
            print(_line(outcome), flush=True)
    fine = all(outcome.finding.level is not Level.FAIL for outcome in printed)
    if as_json:
        checks = [
            {"check": name, "level": finding.level, "message": finding.message}
            for name, finding in printed
        ]
        print(json.dumps({"ok": fine, "checks": checks}, ensure_ascii=False))
    return fine


def _line(outcome: CheckResult) -> str:
    name, finding = outcome
    message = printable(finding.message).removeprefix(f"{name}: ")
    level = "FAIL" if finding.level is Level.FAIL else finding.level
    return f"{level:<4} {name}: {message}"


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


PROGRAM: Final = "edge-daemon"
MODULE: Final = "-m edge_daemon"

CAMERALESS: Final = (FINITE_COMMANDS - {"bench"}) | {"watch"}
"""Commands of this program that use no camera."""


@dataclass(frozen=True)
class Process:
    """A running program."""

    pid: int
    words: tuple[str, ...]
    """Its command line."""

    @property
    def ours(self) -> bool:
        """Whether it is this program, using a camera."""
        program, script, *_ = [*(Path(word).name for word in self.words), "", ""]
        by_python = program.startswith("python")
        as_script = by_python and script == PROGRAM
        as_module = by_python and MODULE in " ".join(self.words)
        named = program == PROGRAM or as_script or as_module
        return named and not CAMERALESS & set(self.words)

    def __str__(self) -> str:
        name = PROGRAM if self.ours else Path(self.words[0]).name
        return f"{name} (process {self.pid})"


class ProcessTable:
    """Other processes, from /proc. Only root can list other users' files."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def holders(self, devices: Collection[Path]) -> list[Process]:
        """Processes that have one of these files open."""
        identities = _identities(devices)
        return [
            process
            for process in self._others()
            if any(_identity(file) in identities for file in self._open_files(process.pid))
        ]

    def lockers(self, devices: Collection[Path]) -> list[Process]:
        """Processes that have locked one of these files; any user can list locks."""
        identities = _identities(devices)
        locked = {int(pid) for pid, file in self._locks() if file in identities}
        return [process for process in self._others() if process.pid in locked]

    def daemons(self) -> list[Process]:
        """Other processes of this program that use a camera."""
        return [process for process in self._others() if process.ours]

    def _others(self) -> Iterator[Process]:
        for entry in self._proc.iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # it has ended
            yield Process(int(entry.name), tuple(line.rstrip("\0").split("\0")))

    def _open_files(self, pid: int) -> list[Path]:
        try:
            return list((self._proc / str(pid) / "fd").iterdir())
        except OSError:
            return []

    def _locks(self) -> Iterator[tuple[str, str]]:
        """Process and file of each lock: `1: POSIX ADVISORY WRITE 812 00:05:345 0 EOF`."""
        try:
            lines = (self._proc / "locks").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            fields = line.replace("->", "").split()
            yield fields[4], fields[5]


def _identities(devices: Collection[Path]) -> set[str]:
    return {name for device in devices if (name := _identity(device)) is not None}


def _identity(path: Path) -> str | None:
    """A file as /proc/locks names it: its device's numbers in hexadecimal, and its inode."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


SYSTEM_PACKAGES: Final = Path("/usr/lib/python3/dist-packages")
"""Where apt puts Python packages."""


def check_source(settings: Settings) -> Finding:
    """Read one frame, unless the running daemon uses the camera or it is paused."""
    source = source_from_settings(settings)
    if pause_from_settings(settings, source.kind).paused:
        return Finding.ok(f"{source.name}: paused, so the camera stays closed")
    holders = _holders(source)
    if ours := next((process for process in holders if process.ours), None):
        return Finding.ok(f"{source.name}: used by the running {ours}")
    try:
        frame = _one_frame(source)
    except SourceError as error:
        return _trouble(source, error, holders)
    height, width, _ = frame.bgr.shape
    return Finding.ok(f"{source.name}: gives frames of {width}x{height}")


def _one_frame(source: Source) -> CapturedFrame:
    reader = source.open()
    try:
        frame = reader.read()
    finally:
        reader.close()
    if frame is None:
        raise SourceError(f"{source.name}: has no frame")
    return frame


def _holders(source: Source) -> list[Process]:
    """Other programs that use the camera; libcamera locks the media device of the one it uses."""
    table = ProcessTable()
    source = _without_orientation(source)
    if isinstance(source, PiCamera):
        return table.lockers(list(Path("/dev").glob("media*")))
    return table.holders([Path(source.name)]) if isinstance(source, VideoDevice) else []


def _trouble(source: Source, error: SourceError, holders: list[Process]) -> Finding:
    source = _without_orientation(source)
    if holders:
        return Finding.fail(f"{error}; it is used by {', '.join(map(str, holders))}")
    if isinstance(source, PiCamera) and (remedy := _remedy_of_pi_camera()):
        return Finding.fail(f"{source.name}: {remedy}")
    # Another user's open files are not shown.
    if _could_be_opened(source) and os.geteuid() != 0 and (daemons := ProcessTable().daemons()):
        return Finding.warn(
            f"{error}; maybe used by the running {daemons[0]}; sudo fuser lists the "
            "processes that use a device"
        )
    return Finding.fail(str(error))


def _without_orientation(source: Source) -> Source:
    return source.source if isinstance(source, Oriented) else source


def _could_be_opened(source: Source) -> bool:
    """Whether this is a camera that would open if no other program used it."""
    if isinstance(source, VideoDevice):
        return os.access(source.name, os.R_OK | os.W_OK)
    return isinstance(source, PiCamera)


def _remedy_of_pi_camera() -> str | None:
    """What prevents this process from using the Pi's camera, and the remedy, if it is known."""
    if importlib.util.find_spec("picamera2") is None:
        return _remedy_of_picamera2()
    media = list(Path("/dev").glob("media*"))
    if media and not any(os.access(device, os.R_OK | os.W_OK) for device in media):
        return "no permission for its devices; join the group 'video', and log in again"
    return None


def _remedy_of_picamera2() -> str:
    if not (SYSTEM_PACKAGES / "picamera2").is_dir():
        return "picamera2 is not installed; on a Raspberry Pi: apt install python3-picamera2"
    if str(SYSTEM_PACKAGES) not in sys.path:
        return (
            "picamera2 is installed, but not visible here; create the virtual environment with "
            "/usr/bin/python3 and --system-site-packages"
        )
    return "picamera2 is installed, but incomplete; apt install --reinstall python3-picamera2"


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
