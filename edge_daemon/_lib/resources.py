"""Paths of the bundled models."""

from pathlib import Path


def bundled_models() -> Path:
    """The folder in the package, or next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def bundled_detector() -> Path:
    """The manifest of the bundled face detector."""
    return bundled_models() / "detector.json"
