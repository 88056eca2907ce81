"""The end of a training, and its best epoch, by the score on the validation split."""

from emotion_trainer.training.checkpoint import Epoch


def best_of(history: tuple[Epoch, ...]) -> Epoch:
    """The epoch of the best score, the first one of equals."""
    return max(history, key=lambda epoch: epoch.score)


def is_over(history: tuple[Epoch, ...], epochs: int, patience: int = 0) -> bool:
    """Whether all epochs are done, or too many since the best one (early stopping, Prechelt 1998).

    It depends on the history alone, so a stopped training stays stopped when it is resumed.

    Args:
        history: the epochs so far.
        epochs: how many there are at most.
        patience: epochs without a better score that end the training; 0: none do.
    """
    if not history:
        return False
    epochs_since_best = len(history) - best_of(history).number
    return len(history) >= epochs or 0 < patience <= epochs_since_best
