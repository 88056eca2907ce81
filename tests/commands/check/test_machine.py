import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from disks import fill_up, small_disk
from monitoring.test_hardware import written, zone

from edge_daemon.commands import check
from edge_daemon.commands.check import (
    Finding,
    Level,
    check_board,
    check_clock,
    check_state_folder,
    check_systemd,
)
from edge_daemon.config.settings import Settings


class Usage(NamedTuple):
    """The result type of `shutil.disk_usage`."""

    total: int
    used: int
    free: int


SETTINGS = Settings()


def state_folder(folder: Path) -> Finding:
    return check_state_folder(Settings(state_dir=folder))


def test_state_folder_absent_passes_and_is_not_created(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert state_folder(folder).level is Level.OK
    assert list(tmp_path.iterdir()) == []


def test_state_folder_below_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = state_folder(tmp_path / "file" / "state")
    assert result.level is Level.FAIL
    assert "state_dir" in result.message


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not enter."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0)
    before = os.geteuid()
    if before == 0:  # root may enter any folder
        os.seteuid(65534)
    yield folder
    os.seteuid(before)


def test_state_folder_in_a_locked_folder_fails_with_a_fix(locked: Path) -> None:
    result = state_folder(locked / "state")
    assert result.level is Level.FAIL
    assert result.message.startswith("state_dir: not writable")


@pytest.mark.slow
def test_state_folder_on_a_full_disk_fails_with_a_fix(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        fill_up(disk)
        result = check_state_folder(Settings(state_dir=disk))
    assert result.level is Level.FAIL
    assert result.message.endswith("; free some space")


def test_state_folder_little_space_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**9, 99 * 10**7, 10**7))
    result = state_folder(tmp_path)
    assert result.level is Level.WARN
    assert "10 MB free" in result.message


def test_clock_synchronised_by_timesyncd_or_kernel_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "synchronized"
    monkeypatch.setattr(check, "TIMESYNCD", mark)
    monkeypatch.setattr(check, "_synchronised_by_kernel", lambda: False)
    assert check_clock(SETTINGS).level is Level.WARN
    mark.touch()
    assert check_clock(SETTINGS) == Finding.ok("synchronised by systemd-timesyncd")
    mark.unlink()
    monkeypatch.setattr(check, "_synchronised_by_kernel", lambda: True)
    assert check_clock(SETTINGS) == Finding.ok("synchronised according to the kernel")


def test_clock_kernel_state_is_readable() -> None:
    assert check._synchronised_by_kernel() in {True, False}


@pytest.mark.parametrize(
    ("throttled", "level", "words"),
    [
        ("0", Level.OK, "not throttled, 61 degrees Celsius"),
        ("1", Level.WARN, "under_voltage, 61 degrees Celsius; use a stronger power supply"),
        ("c", Level.WARN, "throttled, soft_temperature_limit, 61 degrees Celsius; cool the board"),
        ("?", Level.OK, "no Raspberry Pi"),
    ],
)
def test_board_throttled_now_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, throttled: str, level: Level, words: str
) -> None:
    firmware = {"devices/platform/soc/soc:firmware/get_throttled": throttled}
    board = written(tmp_path, firmware | zone(0, "cpu-thermal", "61000"))
    monkeypatch.setattr(check, "Hardware", lambda: board)
    found = check_board(SETTINGS)
    assert found.level is level
    assert found.message.startswith(words)


def test_systemd_package_missing_warns_where_systemd_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "SYSTEMD", tmp_path / "absent")
    assert check_systemd(SETTINGS) == Finding.ok("not running here")
    monkeypatch.setattr(check, "SYSTEMD", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert check_systemd(SETTINGS).level is Level.WARN
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert check_systemd(SETTINGS).level is Level.OK
