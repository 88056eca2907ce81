"""The scenes that a detector is validated on: always the same, of what it has never seen."""

from typing import Final

import numpy as np

from emotion_trainer.detector.faces import Picture
from emotion_trainer.detector.recipe import SceneSettings
from emotion_trainer.detector.scenes import Material, SceneMaker

OWN_STREAM: Final = 0
"""Training draws from the streams of epochs, which are counted from 1."""


def validation_scenes(material: Material, settings: SceneSettings, seed: int) -> list[Picture]:
    """Scenes as in training."""
    maker = SceneMaker(material, settings)
    rng = np.random.default_rng([seed, OWN_STREAM])
    return [maker.scene(rng) for _ in range(settings.validation)]
