import logging
import os
import subprocess
import sys
import threading

import pytest

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


def test_models_print_nothing() -> None:
    code = (
        "import numpy, edge_daemon as e;"
        "e.EmotionEnsemble.load().predict(numpy.zeros((3, 48, 48), numpy.uint8))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
