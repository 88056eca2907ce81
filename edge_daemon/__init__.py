"""Watches a camera, recognises seven facial emotions, and publishes only the results."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_daemon.inference.ensemble import EmotionEnsemble
    from edge_daemon.pipeline import Pipeline

__all__ = ["EmotionEnsemble", "Pipeline", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    """Bring the public classes when they are asked for: OpenCV and the runtime are slow to load."""
    if name == "EmotionEnsemble":
        from edge_daemon.inference.ensemble import EmotionEnsemble

        return EmotionEnsemble
    if name == "Pipeline":
        from edge_daemon.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
