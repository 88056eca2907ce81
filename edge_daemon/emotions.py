"""The seven emotions, in FER2013's order, which is the column order of every model."""

from typing import Final

EMOTIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
