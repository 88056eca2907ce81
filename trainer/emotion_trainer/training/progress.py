"""Progress of a training on a terminal or in a log."""

import sys
import time
from datetime import timedelta
from typing import Final

from emotion_trainer.training.checkpoint import Epoch

REFRESH_SECONDS: Final = 1.0


class Progress:
    """Prints a line for each epoch and, on a terminal, the progress within an epoch.

    Args:
        epochs: of the whole training.
        steps: in an epoch.
        measure: the name of what validation measures.
    """

    def __init__(self, epochs: int, steps: int, measure: str) -> None:
        self._measure = measure
        self._epochs = epochs
        self._steps = steps
        self._printed_at = 0.0

    def step(self, epoch: int, step: int, loss: float) -> None:
        """Print the progress of the epoch if the output is a terminal."""
        now = time.monotonic()
        if sys.stdout.isatty() and now - self._printed_at >= REFRESH_SECONDS:
            self._printed_at = now
            line = f"epoch {epoch}/{self._epochs}  step {step}/{self._steps}  loss {loss:.4f}"
            print(f"\r\x1b[K{line}", end="", flush=True)

    def epoch(self, done: Epoch, best: Epoch) -> None:
        """Print the result of an epoch, and the time left for the training."""
        left = timedelta(seconds=round((self._epochs - done.number) * done.seconds))
        start = "\r\x1b[K" if sys.stdout.isatty() else ""
        print(
            f"{start}epoch {done.number}/{self._epochs}  loss {done.loss:.4f}  "
            f"{self._measure} {done.score:.4f}  best {best.score:.4f} (epoch {best.number})  "
            f"{done.seconds:.0f} s  left {left}",
            flush=True,
        )
