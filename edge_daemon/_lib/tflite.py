"""The TFLite runtime: LiteRT, or its predecessor tflite-runtime on 32-bit Arm."""

from pathlib import Path
from typing import Any

from edge_daemon._lib.files import read_regular
from edge_daemon.errors import BundleError


def read_model(path: Path) -> bytes:
    """A `.tflite` file's content.

    With a path, the runtime would map the file into memory. If the file were replaced or truncated
    at run time, that would change results, or end the process with SIGBUS.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def open_interpreter(model: bytes, threads: int) -> Any:  # noqa: ANN401  # two libraries, neither typed
    """An interpreter of a `.tflite` file's content.

    Raises:
        ValueError, RuntimeError: it is not a model.
        BundleError: there is no runtime.
    """
    return interpreter_type()(model_content=model, num_threads=threads)


def interpreter_type() -> Any:  # noqa: ANN401  # likewise
    """The class of the runtime that is installed.

    Raises:
        BundleError: there is none.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            raise BundleError(
                f"no TFLite runtime to run models: {error}; pip install ai-edge-litert"
            ) from error
    return Interpreter


def first_line(error: Exception) -> str:
    """First line of a runtime's error, without its trace."""
    return str(error).partition("\n")[0]
