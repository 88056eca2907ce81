"""Early stopping: when a training ends, judged by the results of its epochs."""

from emotion_trainer.recipe import Optimisation
from emotion_trainer.training.checkpoint import Epoch


def best_of(history: tuple[Epoch, ...]) -> Epoch:
    """The epoch of the best accuracy, the first one of equals."""
    return max(history, key=lambda epoch: epoch.accuracy)


def is_over(history: tuple[Epoch, ...], settings: Optimisation) -> bool:
    """Whether all epochs are done, or too many since the best one (early stopping, Prechelt 1998).

    The history is all that it looks at, so a stopped training stays stopped when it is resumed.
    """
    if not history:
        return False
    in_vain = len(history) - best_of(history).number
    return len(history) >= settings.epochs or 0 < settings.patience <= in_vain
