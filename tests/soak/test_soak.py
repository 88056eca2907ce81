import json
import subprocess
import sys
from pathlib import Path

OPTIONS = ["--minutes=0.2", "--pause=1", "--longest=2", "--seed=3", "--json"]


def test_short_soak_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "soak", *OPTIONS, "--folder", tmp_path / "soak"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["problems"] == []
    assert summary["delivered"] >= summary["created"] > 0
    assert sum(of_kind["faults"] for of_kind in summary["recovery"].values()) >= 3
    assert (tmp_path / "soak" / "daemon.log").read_text().count("event_id=") == summary["created"]
