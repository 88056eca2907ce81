"""The picture of imports names every package and the direction of the data flow."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_imports_lists_packages_and_their_imports() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/imports"], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    imports = {name: set(imported) for name, _, _, _, _, *imported in rows}
    assert {"capture", "detection", "publishing"} <= imports["daemon"]
    assert "daemon" not in imports["capture"]
    assert "records" in imports["detection"]
