"""A real broker of the tests' own, and a subscriber that keeps what it gets."""

import getpass
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from running import PATIENCE, free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


class Mosquitto:
    """Mosquitto on a free port; it can be stopped and started again on the same one.

    Args:
        folder: for its files.
        passwords: of the users that are let in; else everyone is.
        guests: whether, in spite of passwords, those without a name are let in, too.
        lines: more of its configuration, such as of TLS.
        rights: lines of its access control list.
    """

    def __init__(
        self,
        folder: Path,
        passwords: dict[str, str] | None = None,
        *,
        guests: bool = False,
        lines: tuple[str, ...] = (),
        rights: tuple[str, ...] = (),
    ) -> None:
        if MOSQUITTO is None:
            pytest.skip("needs mosquitto")
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._rights = folder / "rights"
        words = [f"listener {self.port} 127.0.0.1", "persistence false", "log_dest stderr", *lines]
        # Started by root, it would become another user, who may not read this folder.
        words.append(f"user {getpass.getuser()}")
        words.append(f"allow_anonymous {str(passwords is None or guests).lower()}")
        if passwords is not None:
            words.append(f"password_file {_write(folder, passwords)}")
        if rights:
            self.grant(*rights)
            words.append(f"acl_file {self._rights}")
        self._config.write_text("\n".join([*words, ""]))
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it listens."""
        self._process = subprocess.Popen(
            [str(MOSQUITTO), "-c", self._config], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        assert any(" running" in line for line in self._process.stderr), "mosquitto did not start"

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=PATIENCE)
            self._process = None

    def kill(self) -> None:
        """As a power cut would end it."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate(timeout=PATIENCE)
        self._process = None

    def grant(self, *rights: str) -> None:
        """Other rights from now on."""
        self._rights.write_text("\n".join([*rights, ""]))
        self._rights.chmod(0o600)
        if getattr(self, "_process", None) is not None:
            assert self._process is not None
            self._process.send_signal(1)


def include_as_debian(config: Path, text: str) -> None:
    """Put a configuration into `conf.d`, which a main file like Debian's includes."""
    folder = config.parent / "conf.d"
    folder.mkdir()
    (folder / "own.conf").write_text(text)
    own = [line for line in config.read_text().splitlines() if line.startswith("user ")]
    main = (
        "persistence true",
        f"persistence_location {config.parent}/",
        "log_dest stderr",
        f"include_dir {folder}",
    )
    config.write_text("\n".join([*own, *main, ""]))


def _write(folder: Path, passwords: dict[str, str]) -> Path:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs mosquitto_passwd")
    file = folder / "passwords"
    file.touch(mode=0o600)
    for name, password in passwords.items():
        subprocess.run([program, "-b", file, name, password], check=True, capture_output=True)
    return file


def end_client(client: paho.Client) -> None:
    """Disconnect, end the client's thread and release its callbacks.

    They refer to the client, which closes its sockets only when it is freed. In a cycle of
    references, the garbage collector can free a socket first, which warns that it is not closed.
    """
    client.disconnect()
    client.loop_stop()
    client.on_connect = client.on_disconnect = client.on_message = None
    client.on_publish = client.on_subscribe = None


class Subscriber:
    """Keeps all that is published below a topic; it comes back when the broker does."""

    def __init__(
        self, port: int, topic: str, tls: ssl.SSLContext | None = None, qos: int = 2
    ) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._arrived = threading.Condition()
        self.topic = topic
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        if tls is not None:
            self.client.tls_set_context(tls)
        self.client.on_message = self._keep
        self.listening = threading.Event()
        self.client.on_subscribe = lambda *_: self.listening.set()
        self.client.on_disconnect = lambda *_: self.listening.clear()
        self.client.on_connect = lambda *_: self.client.subscribe(f"{topic}/#", qos=qos)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.listening.wait(PATIENCE)

    def on(self, topic: str) -> list[paho.MQTTMessage]:
        return [message for message in self.messages if message.topic == f"{self.topic}/{topic}"]

    def payloads(self, topic: str) -> list[bytes]:
        return [bytes(message.payload) for message in self.on(topic)]

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, and wait until the broker has it."""
        sent = self.client.publish(f"{self.topic}/{topic}", payload, qos=1, retain=retain)
        sent.wait_for_publish(PATIENCE)

    def wait_until(self, fulfilled: Callable[[], bool]) -> None:
        with self._arrived:
            assert self._arrived.wait_for(fulfilled, PATIENCE), [
                (message.topic, message.payload[:40]) for message in self.messages
            ]

    def wait_for(self, topic: str, *payloads: bytes) -> None:
        """Wait until exactly these have come on a topic."""
        self.wait_until(lambda: self.payloads(topic) == list(payloads))

    def flush(self) -> None:
        """Wait until all is here that the broker had before."""
        count = len(self.on("flush"))
        self.client.publish(f"{self.topic}/flush", qos=1)
        self.wait_until(lambda: len(self.on("flush")) > count)

    def close(self) -> None:
        end_client(self.client)

    def _keep(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()


@contextmanager
def subscribed(
    port: int, topic: str, tls: ssl.SSLContext | None = None, qos: int = 2
) -> Iterator[Subscriber]:
    subscriber = Subscriber(port, topic, tls, qos)
    try:
        yield subscriber
    finally:
        subscriber.close()
