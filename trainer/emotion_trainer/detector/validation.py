"""The scenes that a detector is measured on: always the same, of what it has never seen."""

from typing import Final

import numpy as np

from edge_daemon.records import Image
from emotion_trainer.detector.degradation import degrade
from emotion_trainer.detector.faces import Picture
from emotion_trainer.detector.recipe import SceneSettings
from emotion_trainer.detector.scenes import Material, SceneMaker

SEED: Final = 20_000
"""Whatever the recipe's, so that detectors can be compared."""
EMPTY: Final = 1000


def validation_scenes(material: Material, settings: SceneSettings) -> list[Picture]:
    """Scenes as in training."""
    maker = SceneMaker(material, settings)
    rng = np.random.default_rng(SEED)
    return [maker.scene(rng) for _ in range(settings.validation)]


def empty_scenes(material: Material, settings: SceneSettings) -> list[Image]:
    """Pictures without a face, and without decoys, which no camera sees."""
    maker = SceneMaker(material, settings)
    rng = np.random.default_rng(SEED + 1)
    return [degrade(maker.plain_background(rng), rng) for _ in range(EMPTY)]
