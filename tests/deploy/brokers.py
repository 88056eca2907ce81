"""Mosquitto with the very files of deploy/mosquitto, and clients that log in there."""

import shutil
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import trustme
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from publishing.broker import Mosquitto, _write, end_client, include_as_debian
from running import PATIENCE

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "mosquitto"


class ConfiguredMosquitto(Mosquitto):
    """With files of deploy/mosquitto as its configuration, in a folder instead of /etc.

    Args:
        folder: where all of it lies.
        passwords: of its users.
        files: the configuration, in this order.
        elsewhere: what else is not as it would be: words of the files, and those to put there.
    """

    def __init__(
        self,
        folder: Path,
        passwords: dict[str, str],
        *files: str,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir()
        super().__init__(folder)
        make_certificates(folder / "certs")
        shutil.copy(CONFIGURATION / "acl", folder)
        (folder / "acl").chmod(0o600)
        _write(folder, passwords)
        places = {
            "listener 8883": f"listener {self.port} 127.0.0.1",
            "/etc/mosquitto": str(folder),
            **(elsewhere or {}),
        }
        texts = [(CONFIGURATION / file).read_text(encoding="utf-8") for file in files]
        include_as_debian(self._config, _replaced("\n".join(texts), places))

    @property
    def authority(self) -> Path:
        return self._config.parent / "certs" / "ca.crt"


def _replaced(text: str, places: Mapping[str, str]) -> str:
    for usual, here in places.items():
        assert usual in text, f"{usual} is no more in the files"
        text = text.replace(usual, here)
    return text


def make_certificates(folder: Path) -> None:
    """An authority of the tests' own, and a server's certificate from it, for 127.0.0.1."""
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(folder / "server.key")
    for part in server.cert_chain_pems:
        part.write_to_path(folder / "server.crt", append=True)


class Member:
    """A client with a name and a password, which keeps what it gets."""

    def __init__(
        self, broker: ConfiguredMosquitto, user: str | None, password: str, *, session: int = 0
    ) -> None:
        self.received: list[paho.MQTTMessage] = []
        self._changed = threading.Condition()
        self._answers: dict[int, ReasonCode] = {}
        self._refusal: str | None = None
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, f"{user}-member" if session else "", protocol=paho.MQTTv5
        )
        self._client.username_pw_set(user, password)
        self._client.tls_set_context(ssl.create_default_context(cafile=broker.authority))
        self._client.on_connect = self._on_connect
        self._client.on_publish = lambda _c, _d, mid, reason, _p: self._answer(mid, reason)
        self._client.on_subscribe = lambda _c, _d, mid, reasons, _p: self._answer(mid, reasons[0])
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session
        self._client.connect(
            "127.0.0.1", broker.port, clean_start=not session, properties=properties
        )
        self._client.loop_start()
        self.wait_until(lambda: self._client.is_connected() or self._refusal is not None)

    @property
    def refusal(self) -> str | None:
        """Why the broker does not let it in."""
        return self._refusal

    def subscribe(self, topic: str) -> None:
        assert not self._answer_to(self._client.subscribe(topic, qos=1)[1]).is_failure

    def publish(self, topic: str, payload: str = "x", *, retain: bool = False) -> bool:
        """Whether the broker takes it."""
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        return not self._answer_to(sent.mid).is_failure

    def wait_for(self, *payloads: str) -> None:
        """Wait until exactly these have come."""
        self.wait_until(lambda: self.payloads == list(payloads))

    @property
    def payloads(self) -> list[str]:
        return [message.payload.decode() for message in self.received]

    def wait_until(self, fulfilled: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(fulfilled, PATIENCE), self.payloads

    def close(self) -> None:
        end_client(self._client)

    def _answer_to(self, mid: int | None) -> ReasonCode:
        self.wait_until(lambda: mid in self._answers)
        return self._answers[mid]

    def _on_connect(
        self, _client: object, _data: object, _flags: object, reason: ReasonCode, _more: object
    ) -> None:
        with self._changed:
            self._refusal = str(reason) if reason.is_failure else None
            self._changed.notify_all()

    def _answer(self, mid: int, reason: ReasonCode) -> None:
        with self._changed:
            self._answers[mid] = reason
            self._changed.notify_all()

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.received.append(message)
            self._changed.notify_all()


@contextmanager
def member(
    broker: ConfiguredMosquitto, user: str | None, password: str | None = None, *, session: int = 0
) -> Iterator[Member]:
    """A client whose password is the user's name, unless another is given."""
    client = Member(broker, user, user or "" if password is None else password, session=session)
    try:
        yield client
    finally:
        client.close()
