"""Batches of scenes, which another thread makes during the training steps."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np

from edge_daemon.records import Image
from emotion_trainer.detector.faces import Faces, Floats
from emotion_trainer.detector.scenes import SceneMaker

Batch = tuple[Floats, list[Faces]]

AHEAD: Final = 4
"""Batches that are prepared in advance."""
WORKERS: Final = 1


def epoch_batches(
    maker: SceneMaker, mined: Sequence[Image], seed: tuple[int, int], size: int, steps: int
) -> Iterator[Batch]:
    """Batches of scenes float32 [B, S, S, 1] and their faces.

    Args:
        maker: makes the scenes.
        mined: backgrounds with false positives.
        seed: the same seed makes the same batches.
        size: scenes in a batch.
        steps: batches.
    """

    def make(step: int) -> Batch:
        rng = np.random.default_rng([*seed, step])
        scenes = [maker.scene(rng, mined) for _ in range(size)]
        images = np.stack([scene.image for scene in scenes])[..., np.newaxis]
        return images.astype(np.float32), [scene.faces for scene in scenes]

    yield from _ahead(make, steps)


def _ahead(make: Callable[[int], Batch], steps: int) -> Iterator[Batch]:
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="scenes") as pool:
        waiting: list[Future[Batch]] = [pool.submit(make, s) for s in range(min(AHEAD, steps))]
        for step in range(steps):
            if (following := step + AHEAD) < steps:
                waiting.append(pool.submit(make, following))
            yield waiting.pop(0).result()
