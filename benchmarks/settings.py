"""The daemon's settings for a case: its defaults, but for what the case names."""

import os
from pathlib import Path

from benchmarks.cases import Case
from edge_daemon.config.loading import load_settings
from edge_daemon.config.settings import Settings


def settings_of(case: Case) -> Settings:
    flags: dict[tuple[str, ...], object] = {
        ("source",): case.clip,
        ("sink",): "jsonl",
        ("detection", "detector"): case.detector,
        ("inference", "bundle"): case.bundle,
        ("inference", "threads"): case.threads,
    }
    if case.detector == "yunet":
        flags["detection", "model"] = case.yunet
    if case.every is not None:
        flags["detection", "interval"] = case.every
    return load_settings(Path(os.devnull), {}, flags)
