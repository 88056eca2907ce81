import logging
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from running import file_limit

from edge_daemon._lib.tflite import NOISE, without_noise


def _fail_noisily() -> None:
    with without_noise():
        os.write(2, NOISE + b"an error\n")
        raise RuntimeError


def test_noise_is_dropped_and_other_output_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        _fail_noisily()
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "an error\nlater\n"


def test_text_within_the_noise_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with without_noise():
        os.write(2, NOISE[:-1] + b"an error\n\n")
    assert "an error\n" in capfd.readouterr().err


def test_log_of_another_thread_waits_for_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handler = logging.StreamHandler(os.fdopen(2, "w", closefd=False))
    root.addHandler(handler)
    try:
        with without_noise():
            os.write(2, NOISE[:-1])
            thread = threading.Thread(target=root.warning, args=("a problem",))
            thread.start()
            thread.join(0.2)
            os.write(2, NOISE[-1:])
        thread.join()
    finally:
        root.removeHandler(handler)
    assert capfd.readouterr().err == "a problem\n"


@pytest.mark.parametrize("free", [0, 1, 2])
def test_output_is_kept_with_few_file_descriptors(
    capfd: pytest.CaptureFixture[str], free: int
) -> None:
    with ExitStack() as files:
        # Below the limit, only the last descriptors are free.
        opened = [files.enter_context(Path("/dev/null").open()) for _ in range(9)]
        files.enter_context(file_limit(opened[-1].fileno() + 1))
        for file in opened[len(opened) - free :]:
            file.close()
        files.enter_context(without_noise())
        os.write(2, b"an error\n")
    assert capfd.readouterr().err == "an error\n"


def test_output_is_kept_when_file_descriptors_run_out(capfd: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as limits:
        with without_noise():
            os.write(2, NOISE + b"an error\n")
            limits.enter_context(file_limit(3))
        os.write(2, b"later\n")
    assert capfd.readouterr().err == "an error\nlater\n"


@pytest.mark.slow
def test_models_print_nothing() -> None:
    code = (
        "import numpy, edge_daemon as e;"
        "e.EmotionEnsemble.load().predict(numpy.zeros((3, 48, 48), numpy.uint8))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
