"""What the machine says of itself: its temperature, whether it is throttled, the memory in use."""

import resource
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path


class Throttling(IntFlag):
    """What a Raspberry Pi's firmware says of this moment: bits 0 to 3 of `get_throttled`."""

    UNDER_VOLTAGE = 1
    FREQUENCY_CAPPED = 2
    THROTTLED = 4
    SOFT_TEMPERATURE_LIMIT = 8


@dataclass(frozen=True)
class Board:
    """Reads the kernel's own files, below the folders where it shows them."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")

    def cpu_temperature(self) -> float | None:
        """Degrees Celsius, from the CPU's zone or else the first; None where there is none."""
        zones = sorted(self.sys.glob("class/thermal/thermal_zone*"))
        zones.sort(key=_is_of_cpu, reverse=True)
        millidegrees = _first_number((zone / "temp" for zone in zones), base=10)
        return None if millidegrees is None else millidegrees / 1000

    def throttled(self) -> tuple[str, ...] | None:
        """Names of what holds the CPU back now; None where no firmware tells."""
        # Its node is `soc`, and on a Raspberry Pi 5 `soc@107c000000`.
        files = self.sys.glob("devices/platform/soc*/soc*:firmware/get_throttled")
        bits = _first_number(files, base=16)
        if bits is None:
            return None
        return tuple(str(flag.name).lower() for flag in Throttling if flag & bits)

    def resident_memory(self) -> int:
        """Bytes that this process has in memory."""
        pages = (self.proc / "self" / "statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()


def _is_of_cpu(zone: Path) -> bool:
    try:
        return (zone / "type").read_text().startswith("cpu")
    except OSError:
        return False


def _first_number(files: Iterable[Path], base: int) -> int | None:
    """The first of the files, as a number; None where it cannot be read as such."""
    try:
        return next(int(file.read_text(), base) for file in files)
    except (StopIteration, OSError, ValueError):
        return None
