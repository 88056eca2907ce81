import subprocess
import sys
from pathlib import Path

OPTIONS = ["--devices=5", "--seconds=5", "--processes=1", "--restarts=1", "--away=0.5"]


def test_small_fleet_loses_no_event_when_its_broker_is_restarted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "load.fleet", *OPTIONS],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "5 devices, 5 s, 1 restarts of the broker, 10 connections; " in done.stdout
