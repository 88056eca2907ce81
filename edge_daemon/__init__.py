"""Detect faces in a camera's frames, recognise seven emotions, and publish only the results."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from edge_daemon.analysis import AnalyzedFace, analyze
    from edge_daemon.inference.ensemble import EmotionEnsemble

__all__ = ["AnalyzedFace", "EmotionEnsemble", "__version__", "analyze"]

__version__ = "0.1.0"

MODULES: Final = {
    "AnalyzedFace": "edge_daemon.analysis",
    "EmotionEnsemble": "edge_daemon.inference.ensemble",
    "analyze": "edge_daemon.analysis",
}
"""Modules of the public names, imported at first use: OpenCV and the runtime load slowly."""


def __getattr__(name: str) -> Any:  # noqa: ANN401  # any public object
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
