"""Check of the source: whether it opens and gives a frame; if not, why, and who uses it."""

import importlib.util
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_daemon.capture import CapturedFrame, Source, pause_from_settings, source_from_settings
from edge_daemon.capture.devices import VideoDevice
from edge_daemon.capture.picamera import PiCamera
from edge_daemon.capture.wrappers import Oriented
from edge_daemon.commands.check.checks import Finding
from edge_daemon.config.settings import Settings
from edge_daemon.errors import FINITE_COMMANDS, SourceError

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
