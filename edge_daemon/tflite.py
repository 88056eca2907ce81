"""TFLite by whichever runtime this machine has: LiteRT, or its predecessor on 32-bit Arm."""

from pathlib import Path
from typing import Any


def open_interpreter(path: Path, threads: int) -> Any:  # noqa: ANN401  # two libraries, neither typed
    """An interpreter of a `.tflite` file.

    Raises:
        ValueError, RuntimeError: the file is not there, or no model.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    return Interpreter(model_path=str(path), num_threads=threads)


def first_line(error: Exception) -> str:
    """What a runtime's error says, without the rest of its trace."""
    return str(error).partition("\n")[0]
