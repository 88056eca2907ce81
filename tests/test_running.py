import os
import subprocess
import sys
from pathlib import Path

from running import free_port


def test_free_port_is_returned_once() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)


def test_free_ports_of_two_workers_are_disjoint() -> None:
    def ports_of(worker: str) -> set[str]:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import itertools, running; print(*itertools.islice(running._PORTS, 6000))",
            ],
            cwd=Path(__file__).parent,
            env=os.environ | {"PYTEST_XDIST_WORKER": worker, "PYTEST_XDIST_WORKER_COUNT": "2"},
            capture_output=True,
            text=True,
            check=True,
        )
        return set(done.stdout.split())

    first, second = ports_of("gw0"), ports_of("gw1")
    assert len(first) == len(second) == 6000
    assert first.isdisjoint(second)
