"""Copies of pictures in which the faces are marked, with what the ensemble reads in them."""

from emotion_trainer.annotation.annotator import annotate
from emotion_trainer.annotation.reading import FaceReader

__all__ = ["FaceReader", "annotate"]
