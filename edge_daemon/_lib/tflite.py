"""The TFLite runtime: LiteRT, or its predecessor tflite-runtime on 32-bit Arm."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge_daemon._lib.files import read_regular
from edge_daemon.errors import BundleError

NOISE: Final = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
"""What the runtime prints for each interpreter, and has no setting to suppress."""

_STDERR_LOCK: Final = threading.Lock()


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Drop the runtime's `NOISE` from standard error; all other output is printed at the end.

    The descriptor belongs to the process. The log waits, so that no line of another thread gets
    into the middle of the noise.
    """
    with _STDERR_LOCK, contextlib.ExitStack() as resources:
        for handler in logging.getLogger().handlers:
            if handler.lock is not None:
                resources.enter_context(handler.lock)
        sys.stderr.flush()
        try:
            original = os.dup(2)
            resources.callback(os.close, original)
            kept = os.memfd_create("stderr")
            resources.callback(os.close, kept)
        except OSError:  # no standard error, as of some services, or no free descriptor
            yield
            return
        os.dup2(kept, 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.lseek(kept, 0, os.SEEK_SET)
            # Not duplicated: by now there may be no free descriptor.
            with open(kept, "rb", closefd=False) as file, open(2, "wb", closefd=False) as stderr:
                stderr.write(file.read().replace(NOISE, b""))


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
