"""Hard negatives (Sung & Poggio 1998): backgrounds that the network takes for faces.

Scenes show them again, so that it unlearns its own mistakes.
"""

from typing import Final

import keras
import numpy as np

from edge_daemon.records import Image
from emotion_trainer.detector.scenes import SceneMaker

LOOKED_AT: Final = 384
KEPT: Final = 64
BATCH: Final = 64


def mine(model: keras.Model, maker: SceneMaker, rng: np.random.Generator) -> list[Image]:
    """Of some fresh backgrounds, those in which the network is surest of a face, worst first."""
    fresh = np.stack([maker.background(rng) for _ in range(LOOKED_AT)])
    outputs = np.concatenate(
        [
            np.asarray(model.predict_on_batch(fresh[i : i + BATCH, ..., np.newaxis]))
            for i in range(0, LOOKED_AT, BATCH)
        ]
    )
    worst = np.argsort(-outputs[..., 0].max(axis=1))[:KEPT]
    return list(fresh[worst])
