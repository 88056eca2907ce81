"""Import of Keras, for commands that may need it."""

import os
import sys
from pathlib import Path
from typing import Final

STANDARD_ERROR: Final = 2
"""File descriptor."""


def import_keras() -> None:
    """Import Keras and its backend without TensorFlow's start-up messages.

    They go to the file descriptor of standard error, whatever TF_CPP_MIN_LOG_LEVEL is.
    """
    if "keras" in sys.modules:
        return
    sys.stderr.flush()
    saved = os.dup(STANDARD_ERROR)
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), STANDARD_ERROR)
        import keras  # noqa: F401
    finally:
        os.dup2(saved, STANDARD_ERROR)
        os.close(saved)
