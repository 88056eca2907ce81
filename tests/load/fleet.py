"""A fleet of simulated devices on one mosquitto, or on a RabbitMQ cluster: latency and losses.

In the folder tests/:

    python -m load.fleet --devices 200 --seconds 60
    python -m load.fleet --devices 200 --seconds 60 --restarts 2
    python -m load.fleet --devices 200 --seconds 180 --rate 1 --cluster --restarts 2

Each device publishes with the daemon's own classes, from a durable event queue on disk. The
subscribers check each message as `edge-daemon watch` does, in persistent sessions. With
`--restarts`, the broker is stopped and started again; of a cluster, one node after another is
killed. Devices, subscribers and brokers share this machine.
"""

import argparse
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from load.device import BASE, FLUSH_TIMEOUT_S, Account, simulate
from load.rabbitmq import Cluster, missing, running_cluster
from publishing.broker import Mosquitto

from edge_daemon._lib.clock import SystemClock
from edge_daemon.commands.watch.consumer import Consumer, ValidMessage
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.client import Connected, MqttClient
from edge_daemon.publishing.messages import (
    Message,
    MessageKind,
    Received,
    Subscribed,
    Version,
    topic_filters,
)

SESSION_EXPIRY_S: Final = 300
"""Time for which the broker keeps a subscriber's session (MQTT 5)."""

IDLE_S: Final = 5.0
"""Time without a result or an event after which a subscriber has received all."""

DRAIN_TIMEOUT_S: Final = 120.0
"""Limit on receiving what is queued for a subscriber at the end."""

processes = multiprocessing.get_context("spawn")


class LoadedBroker(Protocol):
    """What serves the fleet."""

    port: int
    protocol: Version

    def restart(self, number: int, away_s: float) -> None:
        """End the broker, or the node of this number, and start it again after some time."""
        ...

    def usage(self) -> str:
        """Its load and memory."""
        ...


class LoadedMosquitto(Mosquitto):
    """With persistence, and its CPU time and memory."""

    protocol: Version = "5"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = self._config.read_text().replace("persistence false", "persistence true")
        more = f"persistence_location {folder}/\nmax_queued_messages 100000\n"
        self._config.write_text(f"{text}{more}connection_messages false\n")
        self._began = time.monotonic()
        self._cpu_s = self._memory_mb = 0.0

    def restart(self, number: int, away_s: float) -> None:
        del number
        self._note_usage()
        self.stop()
        time.sleep(away_s)
        self.start()

    def usage(self) -> str:
        self._note_usage()
        share = self._cpu_s / (time.monotonic() - self._began)
        return f"mosquitto: {100 * share:.0f} % of a core, {self._memory_mb:.0f} MB"

    def _note_usage(self) -> None:
        if self._process is not None:
            cpu_s, memory_mb = process_usage(self._process.pid)
            self._cpu_s += cpu_s
            self._memory_mb = max(self._memory_mb, memory_mb)


class LoadedCluster:
    """A RabbitMQ cluster of which one node at a time is killed."""

    protocol: Version = "3.1.1"
    """RabbitMQ before 3.13 closes connections of MQTT 5 without an answer."""

    def __init__(self, cluster: Cluster) -> None:
        self.port = cluster.port
        self._cluster = cluster
        self._began = time.monotonic()
        self._cpu_s = -self._running_cpu_s()

    def restart(self, number: int, away_s: float) -> None:
        node = self._cluster.nodes[number % len(self._cluster.nodes)]
        self._cpu_s += process_usage(node.pid)[0]
        node.kill()
        time.sleep(away_s)
        node.start()
        node.wait_until_ready()

    def usage(self) -> str:
        share = (self._cpu_s + self._running_cpu_s()) / (time.monotonic() - self._began)
        memory_mb = max(process_usage(node.pid)[1] for node in self._cluster.nodes)
        return (
            f"{len(self._cluster.nodes)} nodes of RabbitMQ: {100 * share:.0f} % of a core "
            f"together, {memory_mb:.0f} MB each"
        )

    def _running_cpu_s(self) -> float:
        return sum(process_usage(node.pid)[0] for node in self._cluster.nodes)


def process_usage(pid: int) -> tuple[float, float]:
    """CPU seconds of a process, and its resident memory in MB."""
    folder = Path("/proc", str(pid))
    user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
    pages = int((folder / "statm").read_text().split()[1])
    cpu_s = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return cpu_s, pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Receipt:
    """What a subscriber has received."""

    counts: Counter[str] = field(default_factory=Counter)
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    """From the publishing of a message to its arrival, by kind."""
    events: set[str] = field(default_factory=set)
    notices: list[str] = field(default_factory=list)
    duplicates: int = 0

    def add(self, accepted: ValidMessage) -> None:
        if accepted.retained:
            return
        self.counts[accepted.kind] += 1
        content: Any = accepted.content
        if accepted.kind is MessageKind.EVENT:
            self.events.add(content["event_id"])
        # The `time` of a face that left is when it was last seen, not that of the message.
        if (
            accepted.kind in {MessageKind.FACES, MessageKind.EVENT}
            and content.get("kind") != "left"
        ):
            made = datetime.fromisoformat(content["time"]).timestamp() * 1000
            late = time.time() * 1000 - made - content["latency_ms"]
            self.latencies_ms.setdefault(accepted.kind, []).append(late)


def devices_process(
    names: Sequence[str],
    broker: Broker,
    folder: Path,
    options: argparse.Namespace,
    *,
    ready: Event,
    accounts: "Queue[Any]",
) -> None:
    """Some of the devices, at a lower priority than broker and subscribers, which are measured."""
    os.nice(5)
    ready.set()
    accounts.put(simulate(names, broker, folder, options.seconds, options.rate))


def subscriber_process(
    number: int,
    devices: int,
    broker: Broker,
    *,
    ready: Event,
    done: Event,
    receipts: "Queue[Any]",
) -> None:
    """A subscriber to all devices, until all of them are done and nothing arrives any more."""
    receipt = Receipt()
    clock = SystemClock()
    consumer = Consumer(BASE, receipt.notices.append, max_devices=devices)
    session = replace(broker, session_expiry=SESSION_EXPIRY_S)
    with closing(MqttClient(session, f"subscriber-{number}", clock)) as client:
        received_at = time.monotonic()
        while not done.is_set() or time.monotonic() - received_at < IDLE_S:
            for update in client.poll(0.2):
                connection = client.connection
                if isinstance(update, Subscribed):
                    ready.set()
                if connection is None:
                    continue
                if isinstance(update, Connected):
                    connection.subscribe(topic_filters(BASE, []))
                elif isinstance(update, Received):
                    message = Message(update.topic, update.payload, update.retained, update.qos)
                    if (accepted := consumer.take(message, clock.monotonic())) is not None:
                        receipt.add(accepted)
                        received_at = time.monotonic()
                    connection.acknowledge(update)
    receipt.duplicates = sum(device.duplicates for device in consumer.devices.values())
    receipts.put(receipt)


def run(
    options: argparse.Namespace, broker: LoadedBroker, folder: Path
) -> tuple[list[Account], list[Receipt]]:
    """Run the fleet once."""
    accounts: Queue[Any] = processes.Queue()
    receipts: Queue[Any] = processes.Queue()
    done = processes.Event()
    address = Broker("127.0.0.1", broker.port, protocol=broker.protocol)
    for number in range(options.subscribers):
        ready = processes.Event()
        processes.Process(
            target=subscriber_process,
            args=(number, options.devices, address),
            kwargs={"ready": ready, "done": done, "receipts": receipts},
            daemon=True,
        ).start()
        if not ready.wait(60):
            sys.exit("a subscriber does not start")
    names = [f"device-{number:04}" for number in range(options.devices)]
    shares = [names[first :: options.processes] for first in range(options.processes)]
    for share in shares:
        ready = processes.Event()
        processes.Process(
            target=devices_process,
            args=(share, address, folder, options),
            kwargs={"ready": ready, "accounts": accounts},
            daemon=True,
        ).start()
        if not ready.wait(60):
            sys.exit("a process of devices does not start")
    for number in range(options.restarts):
        time.sleep(options.seconds / (options.restarts + 1))
        broker.restart(number, options.away)
    found = [accounts.get(timeout=options.seconds + 3 * FLUSH_TIMEOUT_S) for _ in shares]
    done.set()
    return found, [receipts.get(timeout=DRAIN_TIMEOUT_S) for _ in range(options.subscribers)]


def report(
    options: argparse.Namespace, accounts: Sequence[Account], receipts: Sequence[Receipt]
) -> Iterator[str]:
    """The tables, as Markdown."""
    results = sum(account.results for account in accounts)
    dropped = sum(account.dropped for account in accounts)
    sent = results - dropped
    events = all_events(accounts)
    away_s = [seconds for account in accounts for seconds in account.away_s]
    yield (
        f"{options.devices} devices, {options.seconds:g} s, {options.restarts} restarts, "
        f"{sum(account.connections for account in accounts)} connections; "
        f"{sent} results sent ({sent / options.seconds:.0f} a second; "
        f"{options.devices * options.rate:.0f} intended), {dropped} dropped without a connection; "
        f"{len(events)} events, {sum(account.queued for account in accounts)} not acknowledged"
    )
    if away_s:
        p50, p95, most = np.percentile(away_s, [50, 95, 100])
        yield (
            f"{len(away_s)} reconnects after {p50:.1f} s (p50), {p95:.1f} s (p95), "
            f"{most:.1f} s (maximum)"
        )
    yield ""
    yield "| subscriber | messages a second | faces lost | events lost | duplicates |"
    yield "| --- | --- | --- | --- | --- |"
    for number, receipt in enumerate(receipts, 1):
        faces = receipt.counts[MessageKind.FACES]
        yield (
            f"| {number} | {receipt.counts.total() / options.seconds:.0f} "
            f"| {100 * (sent - faces) / sent:.2f} % ({sent - faces}) "
            f"| {len(events - receipt.events)} | {receipt.duplicates} |"
        )
    yield ""
    yield "| latency, ms | p50 | p95 | p99 | maximum |"
    yield "| --- | --- | --- | --- | --- |"
    for kind in (MessageKind.FACES, MessageKind.EVENT):
        late = np.concatenate([receipt.latencies_ms[kind] for receipt in receipts])
        p50, p95, p99, most = np.percentile(late, [50, 95, 99, 100])
        yield f"| `{kind}` | {p50:.1f} | {p95:.1f} | {p99:.1f} | {most:.1f} |"


def all_events(accounts: Sequence[Account]) -> set[str]:
    return {event for account in accounts for event in account.events}


def machine() -> str:
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores of {model.rpartition(': ')[2]}, load {os.getloadavg()[0]:.1f}"


def started_broker(options: argparse.Namespace, folder: Path, parts: ExitStack) -> LoadedBroker:
    if options.cluster:
        if package := missing():
            sys.exit(f"{package} is not installed")
        return LoadedCluster(parts.enter_context(running_cluster(folder)))
    return parts.enter_context(LoadedMosquitto(folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=5.0, help="results a second, of each device")
    parser.add_argument("--processes", type=int, default=2, help="for all devices together")
    parser.add_argument("--subscribers", type=int, default=1)
    parser.add_argument("--cluster", action="store_true", help="three RabbitMQ nodes and HAProxy")
    parser.add_argument("--restarts", type=int, default=0, help="of the broker or of its nodes")
    parser.add_argument("--away", type=float, default=2.0, help="seconds for each restart")
    parser.add_argument("--logs", type=Path, help="folder for a copy of the broker's files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as parts:
        folder = Path(name)
        if options.logs is not None:
            parts.callback(shutil.copytree, folder, options.logs, dirs_exist_ok=True)
        broker = started_broker(options, folder, parts)
        accounts, receipts = run(options, broker, folder)
        print(f"{machine()} ({broker.usage()})\n")
    print("\n".join(report(options, accounts, receipts)))
    is_lost = any(all_events(accounts) - receipt.events for receipt in receipts)
    return 1 if is_lost or any(account.queued for account in accounts) else 0


if __name__ == "__main__":
    sys.exit(main())
