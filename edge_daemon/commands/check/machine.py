"""Checks of the machine: disk, clock, power supply and systemd."""

import ctypes
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Final

from edge_daemon.commands.check.finding import Finding
from edge_daemon.config.settings import Settings
from edge_daemon.monitoring.hardware import Hardware, Throttling

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

HINTS: Final = {
    Throttling.UNDER_VOLTAGE: "use a stronger power supply",
    Throttling.FREQUENCY_CAPPED: "cool the board, or use a stronger power supply",
    Throttling.THROTTLED: "cool the board",
    Throttling.SOFT_TEMPERATURE_LIMIT: "cool the board",
}


def check_state_folder(settings: Settings) -> Finding:
    """Check that events and the pause state can be saved."""
    folder = settings.state_dir
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"written")
    except OSError as error:
        return Finding.fail(
            f"state_dir: not writable, so events and the pause state are lost at exit (got "
            f"{folder}: {error.strerror}); change the folder or its permissions"
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
        hint = HINTS[Throttling[throttled[0].upper()]]
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
