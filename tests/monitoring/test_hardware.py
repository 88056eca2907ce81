import re
import resource
from pathlib import Path

import pytest
from running import file_limit

from edge_daemon.monitoring.hardware import Hardware


def written(root: Path, files: dict[str, str]) -> Hardware:
    """Hardware whose `/sys` has these files."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return Hardware(sys=root)


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
def test_cpu_temperature_prefers_the_cpu_zone(
    tmp_path: Path, zones: list[tuple[str, str]], degrees: float | None
) -> None:
    files = {}
    for number, (kind, temperature) in enumerate(zones):
        files |= zone(number, kind, temperature)
    assert written(tmp_path, files).cpu_temperature() == degrees


def test_cpu_temperature_zone_without_type_is_no_cpu_zone(tmp_path: Path) -> None:
    files = {"class/thermal/thermal_zone0/temp": "30000\n", **zone(1, "cpu-thermal", "50000\n")}
    assert written(tmp_path, files).cpu_temperature() == 50.0


@pytest.mark.parametrize("soc", ["soc", "soc@107c000000"])
@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("0\n", ()),
        ("50000\n", ()),
        ("50005\n", ("under_voltage", "throttled")),
        ("a\n", ("frequency_capped", "soft_temperature_limit")),
        (
            "f000f\n",
            ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"),
        ),
        ("unknown\n", None),
    ],
)
def test_throttled_reports_current_reasons(
    tmp_path: Path, soc: str, content: str, names: tuple[str, ...] | None
) -> None:
    files = {f"devices/platform/{soc}/{soc}:firmware/get_throttled": content}
    assert written(tmp_path, files).throttled() == names


def test_hardware_without_sensors_returns_none(tmp_path: Path) -> None:
    hardware = Hardware(tmp_path / "absent", tmp_path / "absent")
    assert hardware.cpu_temperature() is None
    assert hardware.throttled() is None
    assert hardware.resident_memory() is None


def test_hardware_without_file_descriptors_returns_none() -> None:
    with file_limit(0):
        hardware = Hardware()
        values = (hardware.cpu_temperature(), hardware.throttled(), hardware.resident_memory())
    assert values == (None, None, None)


def test_resident_memory_is_in_bytes(tmp_path: Path) -> None:
    statm = tmp_path / "self" / "statm"
    statm.parent.mkdir()
    statm.write_text("1000 250 30 4 0 500 0\n")
    assert Hardware(proc=tmp_path).resident_memory() == 250 * resource.getpagesize()


def test_resident_memory_matches_process_status() -> None:
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    assert Hardware().resident_memory() == pytest.approx(1024 * int(kilobytes), rel=0.2)
