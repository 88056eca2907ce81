"""Annotated copies of images, drawn by the daemon: what `predict` does."""

from emotion_trainer.annotation.annotator import annotate
from emotion_trainer.annotation.reading import FaceReader

__all__ = ["FaceReader", "annotate"]
