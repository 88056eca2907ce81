"""mixup (Zhang et al. 2018): faces blended in pairs, and what they are to be taken for likewise.

A network that learns from blends is less sure between the emotions, and so of faces it misjudges.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def mix_up(
    faces: Array, targets: Array, alpha: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Blend each face of a batch, float32 [B, 48, 48, 1], and its target [B, 7] with another's.

    Each pair's share is drawn from a beta distribution with both parameters `alpha`: near 0,
    most blends are nearly one of the two. At 0 all stays as it is, and nothing is drawn.
    """
    if alpha == 0.0:
        return faces, targets
    others = rng.permutation(len(faces))
    shares = rng.beta(alpha, alpha, len(faces)).astype(np.float32)
    return _blend(faces, others, shares), _blend(targets, others, shares)


def _blend(own: Array, others: NDArray[np.int64], shares: Array) -> Array:
    shares = shares.reshape(-1, *[1] * (own.ndim - 1))
    blended: Array = shares * own + (1.0 - shares) * own[others]
    return blended
