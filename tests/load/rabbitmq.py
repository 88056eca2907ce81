"""Three RabbitMQ nodes on loopback as one MQTT broker, behind HAProxy.

It needs Debian's packages rabbitmq-server and haproxy; their own services need not run. Each node
has its own ports and folders. An Erlang port mapper of this cluster's own listens on loopback.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from running import free_port

NODES: Final = 3
BOOT_TIMEOUT_S: Final = 180.0
STOP_TIMEOUT_S: Final = 30.0
HOST: Final = "localhost"

PROGRAMS: Final = Path("/usr/lib/rabbitmq/bin")
"""The programs themselves; those in /usr/sbin change to the user `rabbitmq`."""

DEPLOYED: Final = Path(__file__).parents[2] / "deploy" / "rabbitmq"
"""The configuration that the documentation recommends."""

MORE_CONFIG: Final = """
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = true
vm_memory_high_watermark.absolute = 2GB
disk_free_limit.absolute = 50MB
log.console = false
log.file.level = warning
"""

ERLANG_OPTIONS: Final = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
"""Two schedulers, which do not spin while they wait: the nodes share two cores."""


def missing() -> str | None:
    """The first package that is not installed."""
    if not (PROGRAMS / "rabbitmq-server").exists():
        return "rabbitmq-server"
    return None if shutil.which("haproxy", path=_PATH) else "haproxy"


class Node:
    """One node. It can be killed and started again."""

    def __init__(self, folder: Path, name: str, mapper_port: int) -> None:
        self.name = f"{name}@{HOST}"
        self.mqtt_port = free_port()
        self._folder = folder / name
        self._folder.mkdir()
        config = self._folder / "rabbitmq.conf"
        deployed = (DEPLOYED / "rabbitmq.conf").read_text()
        config.write_text(deployed + MORE_CONFIG.format(port=self.mqtt_port))
        plugins = self._folder / "enabled_plugins"
        plugins.write_text("[rabbitmq_mqtt].\n")
        self._environment = os.environ | {
            "HOME": str(folder),  # for the cookie that the nodes share
            "ERL_EPMD_PORT": str(mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_BYTES": "0",  # a killed node leaves no file of many megabytes
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder),
            "RUNNING_UNDER_SYSTEMD": "true",  # no shell in front of the node
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_OPTIONS,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, without waiting until it listens."""
        with (self._folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAMS / "rabbitmq-server"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait_until_ready(self) -> None:
        """Wait until the node accepts MQTT clients."""
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while not _accepts(self.mqtt_port):
            is_alive = self._process is not None and self._process.poll() is None
            if not is_alive or time.monotonic() > deadline:
                output = (self._folder / "output.log").read_text()[-2000:]
                raise RuntimeError(f"{self.name} did not start: {output}")
            time.sleep(0.5)

    def join(self, other: "Node") -> None:
        """Become a member of another node's cluster."""
        self.control("stop_app")
        self.control("join_cluster", other.name)
        self.control("start_app")

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl` on this node."""
        command = [PROGRAMS / "rabbitmqctl", "-q", "-n", self.name, *words]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def kill(self) -> None:
        """End the node as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid


class Cluster:
    """The nodes and their load balancer.

    Args:
        port: where clients connect.
        nodes: its members.
    """

    def __init__(self, port: int, nodes: list[Node]) -> None:
        self.port = port
        self.nodes = nodes


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster; its files go into the folder."""
    mapper_port, port = free_port(), free_port()
    mapper = ["epmd", "-address", "127.0.0.1", "-port", str(mapper_port)]
    with ExitStack() as parts:
        parts.enter_context(_process(mapper))
        nodes = [Node(folder, f"node{number}", mapper_port) for number in range(1, NODES + 1)]
        for node in nodes:
            parts.callback(node.stop)
            node.start()
            node.wait_until_ready()
        for node in nodes[1:]:
            node.join(nodes[0])
            node.wait_until_ready()
        text = (DEPLOYED / "haproxy.cfg").read_text().replace(":1883", f"127.0.0.1:{port}", 1)
        for number, node in enumerate(nodes, 1):
            text = text.replace(f"node{number}.example:1883", f"127.0.0.1:{node.mqtt_port}")
        config = folder / "haproxy.cfg"
        config.write_text(text)
        haproxy = shutil.which("haproxy", path=_PATH) or "haproxy"
        parts.enter_context(_process([haproxy, "-db", "-f", str(config)]))
        _wait_for(port)
        yield Cluster(port, nodes)


_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin"


@contextmanager
def _process(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while not _accepts(port):
        if time.monotonic() > deadline:
            raise RuntimeError(f"port {port} does not listen")
        time.sleep(0.2)


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False
