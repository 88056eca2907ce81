import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from monitoring.conftest import FakePublisher
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from running import PATIENCE, free_port

from edge_daemon._lib.clock import SystemClock
from edge_daemon._lib.http_server import listen
from edge_daemon.capture.status import SourceStatus
from edge_daemon.errors import MetricsError
from edge_daemon.inference.bundle import Bundle
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.prometheus import MetricsServer
from edge_daemon.monitoring.statistics import StageTimings

pytestmark = pytest.mark.usefixtures("_quick_uvicorn")

HOST = "127.0.0.1"


@pytest.fixture
def health(bundle: Bundle) -> Health:
    clock = SystemClock()
    return Health(
        clock, bundle, SourceStatus("camera", clock), StageTimings(clock), FakePublisher()
    )


@pytest.fixture
def port(health: Health) -> Iterator[int]:
    """The port of a running server."""
    port = free_port()
    listener = listen((HOST, port), "metrics.listen", MetricsError)
    server = MetricsServer(health, listener, include_emotions=False)
    thread = threading.Thread(target=server.run, args=(nullcontext(),))
    thread.start()
    yield port
    server.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port))


def scrape(port: int, accept: str = "text/plain") -> str:
    request = urllib.request.Request(f"http://{HOST}:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.read().decode()


def test_scrape_is_valid_in_both_formats(port: int) -> None:
    plain = {family.name for family in text_string_to_metric_families(scrape(port))}
    openmetrics = scrape(port, "application/openmetrics-text; version=1.0.0")
    strict = {family.name for family in openmetrics_families(openmetrics)}
    assert {"edge_daemon_source_state", "process_resident_memory_bytes"} <= plain & strict


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "BREW"])
def test_other_methods_than_get_are_refused(port: int, method: str) -> None:
    request = urllib.request.Request(f"http://{HOST}:{port}/metrics", method=method)
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=PATIENCE)
    with refusal.value as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
        assert response.read() == b""


def test_undecodable_header_fields_are_ignored(port: int) -> None:
    fields = b"Accept: \xff;q=x\r\nAccept-Encoding: \xff\r\nConnection: close\r\n"
    with socket.create_connection((HOST, port), PATIENCE) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n")
        response = connection.makefile("rb").read()
    assert response.startswith(b"HTTP/1.1 200")
    assert b"edge_daemon_source_state" in response


def test_websocket_is_refused(port: int) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    request = urllib.request.Request(f"http://{HOST}:{port}/", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        assert response.status == 200
