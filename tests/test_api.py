"""The public Python API, as the README shows it."""

import subprocess
import sys

import edge_daemon


def test_public_names() -> None:
    assert edge_daemon.__all__ == ["EmotionEnsemble", "Pipeline", "__version__"]
    assert all(hasattr(edge_daemon, name) for name in edge_daemon.__all__)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, edge_daemon.cli; print({'cv2', 'paho', 'ai_edge_litert'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
