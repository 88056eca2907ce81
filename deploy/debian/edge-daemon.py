#!/usr/bin/python3
"""Runs edge-daemon with the Python packages next to this file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "packages"))

from edge_daemon.__main__ import main  # found through the line above

sys.exit(main())
