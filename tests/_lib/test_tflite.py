import os
import subprocess
import sys

import pytest

from edge_daemon._lib.tflite import NOISE, without_noise


def _fail_noisily() -> None:
    with without_noise():
        os.write(2, NOISE + b" for CPU.\nan error\n")
        raise RuntimeError


def test_noise_is_dropped_and_other_output_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        _fail_noisily()
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "an error\nlater\n"


def test_models_print_nothing() -> None:
    code = (
        "import numpy, edge_daemon as e;"
        "e.EmotionEnsemble.load().predict(numpy.zeros((3, 48, 48), numpy.uint8))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
