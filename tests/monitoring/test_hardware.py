import re
import resource
from pathlib import Path

import pytest

from edge_daemon.monitoring.hardware import Board


def written(root: Path, files: dict[str, str]) -> Board:
    """A machine whose kernel shows these files below /sys."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return Board(sys=root)


def zone(number: int, kind: str, temperature: str) -> dict[str, str]:
    folder = f"class/thermal/thermal_zone{number}"
    return {f"{folder}/type": f"{kind}\n", f"{folder}/temp": temperature}


@pytest.mark.parametrize(
    ("zones", "degrees"),
    [
        ([("cpu-thermal", "48312\n")], 48.312),
        ([("acpitz", "27000\n"), ("cpu_thermal", "61500\n")], 61.5),
        ([("acpitz", "27000\n"), ("x86_pkg_temp", "61500\n")], 27.0),
        ([("cpu-thermal", "-1500\n")], -1.5),
        ([("cpu-thermal", "warm\n")], None),
        ([], None),
    ],
)
def test_temperature_is_the_cpus_or_else_the_first_zones(
    tmp_path: Path, zones: list[tuple[str, str]], degrees: float | None
) -> None:
    files = {}
    for number, (kind, temperature) in enumerate(zones):
        files |= zone(number, kind, temperature)
    assert written(tmp_path, files).cpu_temperature() == degrees


def test_zone_without_a_type_counts_as_another(tmp_path: Path) -> None:
    files = {"class/thermal/thermal_zone0/temp": "30000\n", **zone(1, "cpu-thermal", "50000\n")}
    assert written(tmp_path, files).cpu_temperature() == 50.0


@pytest.mark.parametrize("soc", ["soc", "soc@107c000000"])
@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("0\n", ()),
        ("50000\n", ()),
        ("50005\n", ("under_voltage", "throttled")),
        ("a\n", ("frequency_capped", "soft_temperature_limit")),
        (
            "f000f\n",
            ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"),
        ),
        ("what?\n", None),
    ],
)
def test_throttling_is_what_the_firmware_says_of_now(
    tmp_path: Path, soc: str, said: str, names: tuple[str, ...] | None
) -> None:
    files = {f"devices/platform/{soc}/{soc}:firmware/get_throttled": said}
    assert written(tmp_path, files).throttled() == names


def test_machine_that_says_nothing_is_no_failure(tmp_path: Path) -> None:
    board = Board(sys=tmp_path / "absent")
    assert (board.cpu_temperature(), board.throttled()) == (None, None)


def test_resident_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    statm = tmp_path / "self" / "statm"
    statm.parent.mkdir()
    statm.write_text("1000 250 30 4 0 500 0\n")
    assert Board(proc=tmp_path).resident_memory() == 250 * resource.getpagesize()


def test_resident_memory_of_this_process_is_the_one_in_its_status() -> None:
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    assert Board().resident_memory() == pytest.approx(1024 * int(kilobytes), rel=0.2)
