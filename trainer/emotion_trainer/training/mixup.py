"""mixup (Zhang et al. 2018): pairs of faces and their targets are blended.

A network that is trained on blends is less confident, also in its errors.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def mix_up(
    faces: Array, targets: Array, alpha: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Blend each face of a batch, float32 [B, 48, 48, 1], and its target [B, 7] with another's.

    The share of each pair is drawn from the beta distribution with both parameters `alpha`. The
    smaller it is, the nearer most blends are to one of the two. At 0, nothing changes.
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
