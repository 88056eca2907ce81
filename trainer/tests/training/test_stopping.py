import pytest

from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.stopping import best_of, is_over


def history(*scores: float) -> tuple[Epoch, ...]:
    return tuple(Epoch(n, 1.0, score, 1.0) for n, score in enumerate(scores, start=1))


def test_best_of_equal_scores_is_the_first() -> None:
    assert best_of(history(0.1, 0.5, 0.3, 0.5)).number == 2


@pytest.mark.parametrize(
    ("patience", "scores", "over"),
    [
        (0, (), False),
        (0, (0.5, 0.1, 0.1, 0.1, 0.1), False),
        (0, (0.5, 0.1, 0.1, 0.1, 0.1, 0.1), True),
        (2, (), False),
        (2, (0.5,), False),
        (2, (0.5, 0.5), False),
        (2, (0.5, 0.5, 0.5), True),
        (2, (0.5, 0.4, 0.6, 0.4), False),
        (2, (0.5, 0.4, 0.6, 0.4, 0.5), True),
        (9, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), True),
    ],
)
def test_ends_after_all_epochs_or_too_many_in_vain(
    patience: int, scores: tuple[float, ...], over: bool
) -> None:
    assert is_over(history(*scores), 6, patience) is over
