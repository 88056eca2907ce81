"""Training batches: shuffled, augmented and mixed, in a thread during the training steps."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from emotion_trainer.recipe import Recipe
from emotion_trainer.training.augmentation import augment
from emotion_trainer.training.mixup import mix_up

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]


def steps_per_epoch(faces: int, batch: int) -> int:
    """The whole batches in an epoch; each epoch leaves out other faces.

    A data set that is smaller than a batch is one step.
    """
    return max(1, faces // batch)


def epoch_batches(
    images: NDArray[np.uint8], targets: NDArray[np.float32], recipe: Recipe, epoch: int
) -> Iterator[Batch]:
    """The batches of one epoch: faces float32 [B, 48, 48, 1] and targets float32 [B, 7].

    They depend on the recipe's seed and the epoch alone, so a resumed training has the same
    batches as an uninterrupted one.

    Args:
        images: uint8 [N, 48, 48].
        targets: float32 [N, 7].
        recipe: the seed, the batch size and the augmentation.
        epoch: counted from 1.
    """
    rng = np.random.default_rng([recipe.seed, epoch])
    order = rng.permutation(len(images))
    size = recipe.optimisation.batch

    def make(step: int) -> Batch:
        chosen = order[step * size : (step + 1) * size]
        faces = augment(images[chosen], recipe.augmentation, rng)
        return mix_up(faces, targets[chosen], recipe.augmentation.mixup, rng)

    with ThreadPoolExecutor(1, thread_name_prefix="augmentation") as pool:
        ready = pool.submit(make, 0)
        for step in range(1, steps_per_epoch(len(images), size)):
            batch = ready.result()
            ready = pool.submit(make, step)
            yield batch
        yield ready.result()
