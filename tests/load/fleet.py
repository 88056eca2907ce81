"""A fleet of simulated devices on one real mosquitto: what arrives, how late, and what is lost.

In the folder tests/:

    python -m load.fleet --devices 200 --seconds 60
    python -m load.fleet --devices 200 --seconds 60 --restarts 2

Each device publishes as the daemon does: results at 5 Hz, events with QoS 1 from its own spool,
state and health retained. The subscribers are those of `edge-daemon watch`. Devices, subscribers
and broker share this machine.
"""

import argparse
import asyncio
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path
from typing import Any

import numpy as np
from load.device import RATE, Account, simulate
from publishing.broker import Mosquitto

from edge_daemon._lib.clock import SystemClock
from edge_daemon.commands.watch.command import Subscription
from edge_daemon.commands.watch.consumer import Accepted, Consumer, Kind, filters
from edge_daemon.publishing.broker import Broker

BASE = "edge-daemon"
SETTLING = 3.0
"""Seconds in which all devices connect, and in which the last messages arrive."""

processes = multiprocessing.get_context("spawn")


class LoadedBroker(Mosquitto):
    """With a memory over restarts, and figures on itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = self._config.read_text().replace("persistence false", "persistence true")
        more = f"persistence_location {folder}/\nmax_queued_messages 100000\n"
        self._config.write_text(f"{text}{more}connection_messages false\n")
        self.cpu_seconds = 0.0
        self.memory_mb = 0.0

    def stop(self) -> None:
        self._note_figures()
        super().stop()

    def _note_figures(self) -> None:
        if self._process is None:
            return
        folder = Path("/proc", str(self._process.pid))
        user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        self.cpu_seconds += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        pages = int((folder / "statm").read_text().split()[1])
        self.memory_mb = max(self.memory_mb, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


@dataclass
class Receipt:
    """What a subscriber has got."""

    counts: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds from the making of a message to its arrival, by kind."""
    events: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    duplicates: int = 0

    def add(self, accepted: Accepted) -> None:
        if accepted.retained:
            return
        self.counts[accepted.kind] += 1
        content: Any = accepted.content
        if accepted.kind is Kind.EVENT:
            self.events.add(content["event_id"])
        # The `time` of a face that left is when it was last seen, not that of the message.
        if accepted.kind in {Kind.FACES, Kind.EVENT} and content.get("kind") != "left":
            made = datetime.fromisoformat(content["time"]).timestamp() * 1000
            late = time.time() * 1000 - made - content["latency_ms"]
            self.latencies.setdefault(accepted.kind, []).append(late)


def devices_process(
    names: Sequence[str], port: int, seconds: float, begun: Semaphore, reports: "Queue[Any]"
) -> None:
    """Some of the devices, in one event loop."""

    async def all_of_them() -> list[Account]:
        # When a connection breaks, aiomqtt leaves futures and callbacks behind that nobody misses:
        # what counts is what was acknowledged.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        begun.release()
        return await asyncio.gather(*(simulate(name, BASE, port, seconds) for name in names))

    reports.put(asyncio.run(all_of_them()))


def subscriber_process(port: int, ready: Event, done: Event, reports: "Queue[Any]") -> None:
    """A subscriber to all devices, until it is done."""
    receipt = Receipt()
    clock = SystemClock()
    consumer = Consumer(BASE, receipt.told.append)
    broker = Broker("127.0.0.1", port, None, None, keepalive=30)
    subscription = Subscription(broker, filters(BASE, []), receipt.told.append, clock)
    with closing(subscription):
        subscription.open()
        ready.set()
        while not done.is_set():
            for message in subscription.receive(0.2):
                if (accepted := consumer.take(message, clock.monotonic())) is not None:
                    receipt.add(accepted)
    receipt.duplicates = sum(device.duplicates for device in consumer.devices.values())
    reports.put(receipt)


def run(options: argparse.Namespace, broker: LoadedBroker) -> tuple[list[Account], list[Receipt]]:
    """All of it, once."""
    accounts: Queue[Any] = processes.Queue()
    receipts: Queue[Any] = processes.Queue()
    begun, done = processes.Semaphore(0), processes.Event()
    for _ in range(options.subscribers):
        ready = processes.Event()
        processes.Process(
            target=subscriber_process, args=(broker.port, ready, done, receipts), daemon=True
        ).start()
        if not ready.wait(60):
            sys.exit("a subscriber does not start")
    names = [f"device-{number:04}" for number in range(options.devices)]
    shares = [names[first :: options.processes] for first in range(options.processes)]
    for share in shares:
        arguments = (share, broker.port, options.seconds, begun, accounts)
        processes.Process(target=devices_process, args=arguments, daemon=True).start()
    for _ in shares:
        begun.acquire()
    restart(broker, options)
    told = [accounts.get(timeout=options.seconds + 120) for _ in shares]
    time.sleep(SETTLING)
    done.set()
    received = [receipts.get(timeout=60) for _ in range(options.subscribers)]
    return [account for some in told for account in some], received


def restart(broker: LoadedBroker, options: argparse.Namespace) -> None:
    """Stop and start the broker some times, evenly spread."""
    for _ in range(options.restarts):
        time.sleep(options.seconds / (options.restarts + 1))
        broker.stop()
        time.sleep(options.away)
        broker.start()


def report(
    options: argparse.Namespace, accounts: Sequence[Account], receipts: Sequence[Receipt]
) -> Iterator[str]:
    """The table, as Markdown."""
    sent = sum(account.faces for account in accounts)
    dropped = sum(account.dropped for account in accounts)
    acknowledged = {event for account in accounts for event in account.events}
    connections = sum(account.connections for account in accounts)
    yield (
        f"{options.devices} devices, {options.seconds:g} s, {options.restarts} restarts of the "
        f"broker, {connections} connections; {sent} results sent ({sent / options.seconds:.0f} a "
        f"second; {options.devices * RATE:.0f} wanted), {dropped} dropped while it was away; "
        f"{len(acknowledged)} events acknowledged, "
        f"{sum(account.unsent for account in accounts)} not"
    )
    yield ""
    yield "| subscriber | messages a second | faces lost | events lost | events twice |"
    yield "| --- | --- | --- | --- | --- |"
    for number, receipt in enumerate(receipts, 1):
        faces = receipt.counts[Kind.FACES]
        yield (
            f"| {number} | {receipt.counts.total() / options.seconds:.0f} "
            f"| {100 * (sent - faces) / sent:.2f} % ({sent - faces}) "
            f"| {len(acknowledged - receipt.events)} | {receipt.duplicates} |"
        )
    yield ""
    yield "| latency, ms | p50 | p95 | p99 | most |"
    yield "| --- | --- | --- | --- | --- |"
    for kind in (Kind.FACES, Kind.EVENT):
        late = np.concatenate([receipt.latencies[kind] for receipt in receipts])
        p50, p95, p99, most = np.percentile(late, [50, 95, 99, 100])
        yield f"| `{kind}` | {p50:.1f} | {p95:.1f} | {p99:.1f} | {most:.1f} |"


def machine() -> str:
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores of {model.rpartition(': ')[2]}, load {os.getloadavg()[0]:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--processes", type=int, default=2, help="for all devices together")
    parser.add_argument("--subscribers", type=int, default=1)
    parser.add_argument("--restarts", type=int, default=0, help="of the broker, meanwhile")
    parser.add_argument("--away", type=float, default=2.0, help="seconds for each restart")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker = LoadedBroker(Path(folder))
        broker.start()
        begin = time.monotonic()
        try:
            accounts, receipts = run(options, broker)
        finally:
            elapsed = time.monotonic() - begin
            broker.stop()
    print(
        f"{machine()} (broker: {100 * broker.cpu_seconds / elapsed:.0f} % of a core, "
        f"{broker.memory_mb:.0f} MB)\n"
    )
    print("\n".join(report(options, accounts, receipts)))
    acknowledged = {event for account in accounts for event in account.events}
    lost = any(acknowledged - receipt.events for receipt in receipts)
    return 1 if lost or any(account.unsent for account in accounts) else 0


if __name__ == "__main__":
    sys.exit(main())
