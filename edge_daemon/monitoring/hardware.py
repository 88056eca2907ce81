"""The machine: its names, CPU temperature, throttling, memory."""

import platform
import resource
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path


class Throttling(IntFlag):
    """Current throttling as a Raspberry Pi's firmware reports it: bits 0-3 of `get_throttled`."""

    UNDER_VOLTAGE = 1
    FREQUENCY_CAPPED = 2
    THROTTLED = 4
    SOFT_TEMPERATURE_LIMIT = 8


@dataclass(frozen=True)
class Hardware:
    """Reads the kernel's sensor files. What cannot be read, for any reason, is None.

    A reading may fail at any time, for example when the process has no file descriptor left, and
    must not end the daemon.
    """

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")

    def cpu_temperature(self) -> float | None:
        """Degrees Celsius, from the CPU's thermal zone or else from the first zone."""
        zones = _glob(self.sys, "class/thermal/thermal_zone*")
        zones.sort(key=_is_cpu_zone, reverse=True)
        millidegrees = _first_number((zone / "temp" for zone in zones), base=10)
        return None if millidegrees is None else millidegrees / 1000

    def throttled(self) -> tuple[str, ...] | None:
        """Names of the reasons for which the CPU is throttled now."""
        # The node is `soc`, and `soc@107c000000` on a Raspberry Pi 5.
        files = _glob(self.sys, "devices/platform/soc*/soc*:firmware/get_throttled")
        bits = _first_number(files, base=16)
        if bits is None:
            return None
        return tuple(str(flag.name).lower() for flag in Throttling if flag & bits)

    def resident_memory(self) -> int | None:
        """Resident memory of this process, in bytes."""
        try:
            pages = (self.proc / "self" / "statm").read_text().split()[1]
        except OSError:
            return None
        return int(pages) * resource.getpagesize()

    def total_memory(self) -> int | None:
        """Memory of the machine, in bytes."""
        with suppress(OSError, ValueError, IndexError):
            first, *_ = (self.proc / "meminfo").read_text().splitlines()
            return int(first.split()[1]) << 10
        return None

    def board(self) -> str | None:
        """Name of the board, such as "Raspberry Pi 4 Model B Rev 1.4"."""
        with suppress(OSError):
            return (self.proc / "device-tree/model").read_text().strip("\0\n ")
        return None

    def cpu(self) -> str:
        """Name of the CPU, or its architecture where it has no name."""
        with suppress(OSError):
            for line in (self.proc / "cpuinfo").read_text().splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
        return platform.machine()


def _glob(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _is_cpu_zone(zone: Path) -> bool:
    try:
        return (zone / "type").read_text().startswith("cpu")
    except OSError:
        return False


def _first_number(files: Iterable[Path], base: int) -> int | None:
    """The content of the first file as a number; None if there is none or it is not a number."""
    try:
        return next(int(file.read_text(), base) for file in files)
    except (StopIteration, OSError, ValueError):
        return None
