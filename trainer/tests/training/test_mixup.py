import numpy as np
import pytest

from emotion_trainer.training.mixup import mix_up

# Faces of one grey level each, and targets that identify the face.
FACES = np.broadcast_to(np.arange(64, dtype=np.float32)[:, None, None, None], (64, 48, 48, 1))
TARGETS = np.stack([np.arange(64), 63 - np.arange(64)], axis=1).astype(np.float32)


def test_targets_are_blended_as_their_faces_are() -> None:
    faces, targets = mix_up(FACES, TARGETS, 0.4, np.random.default_rng(1))
    assert faces.shape == FACES.shape
    assert faces.dtype == targets.dtype == np.float32
    assert (faces == faces[:, :1, :1]).all()
    np.testing.assert_allclose(faces[:, 0, 0, 0], targets[:, 0], rtol=1e-5)
    assert targets.sum(axis=1) == pytest.approx(63.0)
    blended = ~np.isin(faces[:, 0, 0, 0], np.arange(64))
    assert 20 < blended.sum() < 64


@pytest.mark.parametrize(("alpha", "spread"), [(0.1, 0.46), (1.0, 0.29), (20.0, 0.08)])
def test_shares_are_of_the_beta_distribution(alpha: float, spread: float) -> None:
    """The standard deviation of Beta(a, a) is 1 / sqrt(8 a + 4)."""
    rng = np.random.default_rng(2)
    own = np.zeros((4000, 1), np.float32)
    own[::2] = 1.0
    blends = mix_up(own, own, alpha, rng)[0]
    half = blends[(blends > 0.0) & (blends < 1.0)]
    found = np.concatenate([half, np.zeros(1000 - len(half) // 2), np.ones(1000 - len(half) // 2)])
    assert found.std() == pytest.approx(spread, abs=0.02)


def test_at_0_nothing_is_changed_nor_drawn() -> None:
    rng = np.random.default_rng(3)
    state = rng.bit_generator.state
    faces, targets = mix_up(FACES, TARGETS, 0.0, rng)
    assert faces is FACES
    assert targets is TARGETS
    assert rng.bit_generator.state == state
