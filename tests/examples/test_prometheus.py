"""The metrics, the dashboard's queries and the alert rules, with a real Prometheus."""

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawing import draw_scene
from running import PATIENCE, camera, eventually, free_port, running

EXAMPLES = Path(__file__).parents[2] / "examples"

NEEDS_HARDWARE = {"edge_daemon_cpu_temperature_celsius"}
"""Metrics that only some machines have."""


class Prometheus:
    """The HTTP API of a running server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return json.load(response)["data"]

    def samples(self, expression: str) -> list[dict[str, Any]]:
        samples: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return samples

    def is_ready(self) -> bool:
        try:
            self.get("status/config")
        except OSError:
            return False
        return True


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """A server that scrapes one target each second and loads the alert rules."""
    if (program := shutil.which("prometheus")) is None:
        pytest.skip("needs prometheus")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(EXAMPLES / "prometheus/alerts.yml")],
        "scrape_configs": [{"job_name": "edge-daemon", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    process = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        server = Prometheus(port)
        eventually(server.is_ready)
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE)


def dashboard_queries() -> list[str]:
    dashboard = json.loads((EXAMPLES / "grafana/dashboard.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    return [target["expr"].replace("$device", ".*") for target in targets]


def target_states(server: Prometheus) -> list[tuple[str, str]]:
    """Health and error of each target at the last scrape."""
    targets = server.get("targets")["activeTargets"]
    return [(target["health"], target["lastError"]) for target in targets]


def test_prometheus_scrapes_and_queries_have_samples(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    words = ("--detector", "haar", "--sink", "jsonl", "--metrics", address)
    with (
        camera(draw_scene((60, 60, 120))) as live,
        running(tmp_path, "--source", live.url, *words) as program,
        prometheus(tmp_path, address) as server,
    ):
        program.wait_for("serving metrics")
        expected = [
            query
            for query in dashboard_queries()
            if not any(name in query for name in (*NEEDS_HARDWARE, "broker", "event_queue"))
        ]
        assert len(expected) >= 5
        for query in expected:
            eventually(partial(server.samples, query))
        # On a busy machine, a scrape may exceed its limit, the interval of a second.
        eventually(lambda: target_states(server) == [("up", "")])
        (group,) = server.get("rules")["groups"]
        eventually(
            lambda: all(
                rule["health"] == "ok" for rule in server.get("rules")["groups"][0]["rules"]
            )
        )
        names = {rule["name"] for rule in group["rules"]}
        assert "EdgeDaemonDown" in names
        eventually(lambda: not server.get("alerts")["alerts"])
