import re
import subprocess
import sys
from pathlib import Path

import pytest
from load.rabbitmq import missing


def run_fleet(*options: str, timeout_s: float = 100.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "load.fleet", *options],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_fleet_with_restarted_broker_loses_no_event() -> None:
    options = ["--devices=5", "--seconds=5", "--processes=1", "--restarts=1", "--away=0.5"]
    done = run_fleet(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = re.search(r"5 devices, 5 s, 1 restarts, (\d+) connections; ", done.stdout)
    assert found is not None, done.stdout
    # On a busy machine a device may connect only after the restart, and then once.
    assert int(found[1]) > 5, done.stdout


@pytest.mark.timeout(400)
def test_fleet_with_killed_cluster_node_loses_no_event() -> None:
    if package := missing():
        pytest.skip(f"needs {package}")
    options = ["--cluster", "--devices=5", "--seconds=30", "--processes=1", "--restarts=1"]
    done = run_fleet(*options, "--rate=1", timeout_s=390.0)
    assert done.returncode == 0, done.stdout + done.stderr
