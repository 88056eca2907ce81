import contextlib
import logging
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from running import PATIENCE, free_port

from edge_daemon._lib.clock import SystemClock
from edge_daemon._lib.resources import bundled_models
from edge_daemon.capture.status import SourceStatus
from edge_daemon.errors import MetricsError
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.prometheus import metrics_app
from edge_daemon.monitoring.prometheus_server import (
    LARGEST_REQUEST,
    REQUEST_TIMEOUT,
    MetricsServer,
    _request_head,
)

HOST = "127.0.0.1"


class Served:
    """A server for a test to ask; it listens once its thread has said so."""

    def __init__(self, host: str = HOST) -> None:
        self.port = free_port()
        clock = SystemClock()
        health = Health(clock, read_bundle(bundled_models()), SourceStatus("camera", clock))
        self.server = MetricsServer(metrics_app(health), (host, self.port), clock)

    def connected(self) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout=PATIENCE)

    def scrape(self, accept: str = "text/plain") -> str:
        url = f"http://{HOST}:{self.port}/metrics"
        request = urllib.request.Request(url, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def said(self, words: bytes) -> bytes:
        """What is answered to these words, until the server closes the connection."""
        with self.connected() as connection:
            connection.sendall(words)
            return b"".join(iter(lambda: connection.recv(4096), b""))


class Listening(logging.Handler):
    """Waits for the line that says so."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "serving metrics":
            self.event.set()


@contextmanager
def serving(served: Served, caplog: pytest.LogCaptureFixture) -> Iterator[Served]:
    logger, listening = logging.getLogger("edge_daemon.monitoring.prometheus_server"), Listening()
    caplog.set_level(logging.INFO)
    logger.addHandler(listening)
    with ThreadPoolExecutor(1) as executor:
        ended = executor.submit(served.server.run, nullcontext)
        try:
            assert listening.event.wait(PATIENCE)
            yield served
        finally:
            logger.removeHandler(listening)
            served.server.stop()
        ended.result(PATIENCE)


@pytest.fixture
def served(caplog: pytest.LogCaptureFixture) -> Iterator[Served]:
    with serving(Served(), caplog) as made:
        yield made


def test_scrape_is_what_prometheus_reads(served: Served) -> None:
    plain = {family.name for family in text_string_to_metric_families(served.scrape())}
    openmetrics = served.scrape("application/openmetrics-text; version=1.0.0")
    strict = {family.name for family in openmetrics_families(openmetrics)}
    assert {"edge_daemon_source_state", "process_resident_memory_bytes"} <= plain & strict


def test_ten_scrapes_at_once_are_all_answered(served: Served) -> None:
    with ThreadPoolExecutor(10) as scrapers:
        answers = list(scrapers.map(lambda _: served.scrape(), range(10)))
    assert all("edge_daemon_uptime_seconds" in answer for answer in answers)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"BREW"])
def test_only_get_is_allowed(served: Served, method: bytes) -> None:
    answer = served.said(method + b" /metrics HTTP/1.1\r\nHost: pi\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 405 ")
    assert b"edge_daemon" not in answer


@pytest.mark.parametrize(
    "words",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01 a TLS hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\na: " + 2 * LARGEST_REQUEST * b"b",
    ],
)
def test_nonsense_does_not_end_the_service(
    served: Served, capsys: pytest.CaptureFixture[str], words: bytes
) -> None:
    with contextlib.suppress(ConnectionError):  # what is not read of a request resets it
        served.said(words)
    assert "edge_daemon_info" in served.scrape()
    assert capsys.readouterr().err == ""


def test_client_that_says_nothing_holds_up_others_for_no_longer_than_the_limit(
    served: Served,
) -> None:
    with served.connected() as silent:
        began = time.monotonic()
        assert "edge_daemon_info" in served.scrape()
        assert time.monotonic() - began < 3 * REQUEST_TIMEOUT
        assert silent.recv(1) == b""


def test_client_that_says_a_letter_at_a_time_does_neither(served: Served) -> None:
    with served.connected() as slow:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                slow.sendall(b"G")
                time.sleep(REQUEST_TIMEOUT / 10)
        assert time.monotonic() - began < 5 * REQUEST_TIMEOUT
    assert "edge_daemon_info" in served.scrape()


def test_endless_request_is_cut_short() -> None:
    client, server = socket.socketpair()
    with client, server:
        client.sendall(4 * LARGEST_REQUEST * b"G")
        assert len(_request_head(server, SystemClock())) <= 2 * LARGEST_REQUEST


def test_client_that_leaves_is_no_error(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        with served.connected() as connection:
            connection.sendall(words)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert "edge_daemon_info" in served.scrape()
    assert capsys.readouterr().err == ""


def test_service_stops_soon_though_clients_say_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with contextlib.ExitStack() as clients:
        with serving(Served(), caplog) as served:
            for _ in range(5):
                clients.enter_context(served.connected())
            began = time.monotonic()
        assert time.monotonic() - began < 2.0


def test_port_is_free_after_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Served(), caplog) as served:
        served.scrape()
    with pytest.raises(ConnectionRefusedError):
        served.connected()


def test_port_in_use_is_one_line_that_names_it(served: Served) -> None:
    second = MetricsServer(lambda *_: [], (HOST, served.port), SystemClock())
    with pytest.raises(MetricsError, match=f"{HOST}:{served.port}: .*in use") as refusal:
        second.run(nullcontext)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "192.0.2.1"])
def test_address_that_is_not_this_machines_is_refused_by_name(host: str) -> None:
    server = MetricsServer(lambda *_: [], (host, free_port()), SystemClock())
    with pytest.raises(MetricsError, match=host):
        server.run(nullcontext)


def test_ipv6_address_is_served(caplog: pytest.LogCaptureFixture) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6")
    with serving(Served("::1"), caplog) as served:
        socket.create_connection(("::1", served.port), timeout=PATIENCE).close()
    assert f"[::1]:{served.port}" in [vars(record).get("address") for record in caplog.records]
