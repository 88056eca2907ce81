"""The machine: its disk, its clock, its power and its systemd."""

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
"""Bytes: the events of a long absence of the broker, and the file's log."""

TIMESYNCD: Final = Path("/run/systemd/timesync/synchronized")
"""There once systemd-timesyncd has set the clock (systemd-timesyncd.service(8))."""

TIMEX_SIZE: Final = 512
"""Bytes; a `struct timex` has 208 on 64-bit Linux."""

TIME_ERROR: Final = 5
"""adjtimex(2): the clock is not synchronised."""

SYSTEMD: Final = Path("/run/systemd/system")
"""There where systemd runs (sd_booted(3))."""

MENDS: Final = {
    Throttling.UNDER_VOLTAGE: "use a stronger power supply",
    Throttling.FREQUENCY_CAPPED: "cool the board, or use a stronger power supply",
    Throttling.THROTTLED: "cool the board",
    Throttling.SOFT_TEMPERATURE_LIMIT: "cool the board",
}


def check_state_folder(settings: Settings) -> Finding:
    """Events and a pause can be kept there."""
    folder = settings.state_dir
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"written")
    except OSError as error:
        return Finding.fail(
            f"{folder}: cannot be written to: {error.strerror}; events and a pause would be lost "
            "with the process: choose another state_dir, or other rights"
        )
    free = shutil.disk_usage(there).free
    said = f"{folder}: {free / 1e6:,.0f} MB free"
    if free < ENOUGH_SPACE:
        return Finding.warn(f"{said}; make room, else events may be lost while the broker is away")
    return Finding.ok(said)


def check_clock(_settings: Settings) -> Finding:
    """The times in messages are right."""
    if TIMESYNCD.exists():
        return Finding.ok("synchronised by systemd-timesyncd")
    if _synchronised_by_kernel():
        return Finding.ok("synchronised, says the kernel")
    return Finding.warn("not synchronised, so times in messages may be wrong; see timedatectl")


def check_board(_settings: Settings) -> Finding:
    """Neither heat nor the power supply holds the processor back now."""
    board = Hardware()
    temperature, throttled = board.cpu_temperature(), board.throttled()
    warmth = "" if temperature is None else f", {temperature:.0f} degrees Celsius"
    if throttled is None:
        return Finding.ok(f"does not tell of throttling, as no Raspberry Pi{warmth}")
    if throttled:
        mend = MENDS[Throttling[throttled[0].upper()]]
        return Finding.warn(f"{', '.join(throttled)}{warmth}; {mend}")
    return Finding.ok(f"not throttled{warmth}")


def check_systemd(_settings: Settings) -> Finding:
    """Its Python package can be imported, where the program may run as a service."""
    if not SYSTEMD.is_dir():
        return Finding.ok("does not run here")
    if importlib.util.find_spec("systemd") is None:
        return Finding.warn(
            "its Python package is not seen from here; apt install python3-systemd, and make the "
            "virtual environment with --system-site-packages"
        )
    return Finding.ok("its Python package is there")


def _synchronised_by_kernel() -> bool:
    """What adjtimex(2) returns when it is asked to change nothing."""
    state: int = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(TIMEX_SIZE))
    return 0 <= state < TIME_ERROR
