"""The families of networks, one a file: its settings, and the function that builds it.

A new family is a new file, a part of `ModelSettings`, and a line in `build`.
"""

import keras

from emotion_trainer.families import resnet

ModelSettings = resnet.Settings


def build(settings: ModelSettings) -> keras.Model:
    """Build the untrained network: float32 [N, 48, 48, 1] grey, 0 to 255 -> logits [N, 7]."""
    match settings:
        case resnet.Settings():
            return resnet.build(settings)
