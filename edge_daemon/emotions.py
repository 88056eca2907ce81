"""The seven emotions, in FER2013's order: the one place that fixes the column order of every model."""

from typing import Final

EMOTIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
