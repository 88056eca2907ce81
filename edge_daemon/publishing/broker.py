"""The broker's address, and the credentials for it."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from edge_daemon._lib.files import require_regular
from edge_daemon._lib.text import authority
from edge_daemon.config.settings import MqttSettings
from edge_daemon.errors import SettingsError

Transport = Literal["tcp", "websockets"]

PORTS: Final = {
    ("tcp", False): 1883,
    ("tcp", True): 8883,
    ("websockets", False): 80,
    ("websockets", True): 443,
}
"""Default ports by transport and TLS."""

MAX_PASSWORD_BYTES: Final = 65535
"""Limit of MQTT."""

HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ -~]*")
"""A line with an HTTP header (RFC 9110)."""

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""Size of a file of certificates, passwords or headers; a system's certificates have 300 kB."""

CLOCK_HINT: Final = "set this machine's clock, or renew the broker's certificate"
"""A Raspberry Pi without a network starts with an old time."""

HINTS: Final = {
    "not yet valid": CLOCK_HINT,
    "certificate has expired": CLOCK_HINT,
    "certificate refused": "mqtt.ca_file must have the certificate of the broker's authority, and "
    "mqtt.host a name in the broker's certificate",
    "login refused: ": "check mqtt.username and mqtt.password_file",
    "refused: ": "allow this user to publish below the device's topic",
    "Connection refused": "start the broker, or correct mqtt.host and mqtt.port",
    "timed out": "check mqtt.host, mqtt.port and firewalls",
    "no answer": "check that it is an MQTT broker, and mqtt.tls",
    "reset by peer": "check whether this port needs mqtt.tls",
    "Name or service not known": "check mqtt.host",
    "name resolution": "check the network and mqtt.host",
    "WRONG_VERSION_NUMBER": "check mqtt.port: this one is not encrypted, or set mqtt.tls to false",
    "closed by the broker": "check whether this port needs mqtt.tls",
}
"""Fixes by parts of the reason why a connection or a message fails; the first match counts."""


def with_hint(reason: str) -> str:
    """The reason of a failure, followed by its fix where one is known."""
    hints = [hint for words, hint in HINTS.items() if words in reason]
    return "; ".join([reason, *hints[:1]])


@dataclass(frozen=True)
class Broker:
    """Where to connect, and as which user."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    keepalive: int = 30
    """Seconds between two packets at most."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    will_delay: int = 0
    """Seconds until the broker publishes the will (MQTT 5)."""
    session_expiry: int = 0
    """Seconds for which the broker keeps the session of a disconnected client."""
    tls: ssl.SSLContext | None = None
    transport: Transport = "tcp"
    websocket_path: str = "/mqtt"
    websocket_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return authority((self.host, self.port))


def broker_from(settings: MqttSettings) -> Broker:
    """The broker of these settings.

    Raises:
        SettingsError: a file is unreadable, or settings contradict each other.
    """
    password_file = settings.password_file
    if password_file is not None and settings.username is None:
        if "password_file" in settings.model_fields_set:
            raise SettingsError(
                f"mqtt.username: not set, but mqtt.password_file is (got {password_file}); "
                "set both, or neither"
            )
        # All services of a machine load systemd's credential, also those without a login.
        password_file = None
    _refuse_unused_websocket_settings(settings)
    return Broker(
        host=settings.host,
        port=settings.port or PORTS[settings.transport, settings.tls],
        username=settings.username,
        password=_password(password_file),
        keepalive=settings.keepalive,
        protocol=settings.protocol,
        will_delay=settings.will_delay,
        session_expiry=settings.session_expiry,
        tls=_tls(settings),
        transport=settings.transport,
        websocket_path=settings.websocket_path,
        websocket_headers=_headers(settings.websocket_headers_file),
    )


def _refuse_unused_websocket_settings(settings: MqttSettings) -> None:
    if settings.transport == "websockets":
        return
    for key in ("websocket_path", "websocket_headers_file"):
        value = getattr(settings, key)
        if value != MqttSettings.model_fields[key].default:
            raise SettingsError(
                f"mqtt.{key}: needs mqtt.transport (got {value}); set mqtt.transport to "
                "websockets, or remove this"
            )


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    _require_readable("mqtt.password_file", file)
    try:
        with file.open(encoding="utf-8-sig") as lines:
            password = lines.readline(MAX_PASSWORD_BYTES + 1).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable("mqtt.password_file", file, str(error)) from error
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise SettingsError(
            f"mqtt.password_file: first line too long (got {file}); shorten it to "
            f"{MAX_PASSWORD_BYTES} bytes, the limit of MQTT"
        )
    return password


def _headers(file: Path | None) -> dict[str, str]:
    """The headers in a file: one a line, as `Name: value`."""
    if file is None:
        return {}
    setting = "mqtt.websocket_headers_file"
    _require_readable(setting, file)
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(setting, file, str(error)) from error
    headers = dict(line.split(":", 1) for line in lines if HEADER.fullmatch(line))
    if len(headers) != len([line for line in lines if line.strip()]):
        raise SettingsError(
            f"{setting}: invalid line (got {file}); write each header as NAME: VALUE"
        )
    return {name: value.strip() for name, value in headers.items()}


def _tls(settings: MqttSettings) -> ssl.SSLContext | None:
    """A context that verifies the broker's certificate and name; None without TLS."""
    for key in ("ca_file", "certificate_file", "key_file"):
        file = getattr(settings, key)
        if file is None:
            continue
        if not settings.tls:
            raise SettingsError(
                f"mqtt.{key}: needs mqtt.tls (got {file}); set mqtt.tls to true, or remove this"
            )
        _require_readable(f"mqtt.{key}", file)
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"mqtt.ca_file: no certificates: {error} (got {settings.ca_file}); name a PEM file"
        ) from error
    if settings.certificate_file is not None:
        _load_own(context, settings.certificate_file, settings.key_file)
    elif settings.key_file is not None:
        raise SettingsError(
            f"mqtt.certificate_file: not set, but mqtt.key_file is (got {settings.key_file}); "
            "set both, or neither"
        )
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # The password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"mqtt.certificate_file, mqtt.key_file: cannot be used: {error} (got {certificate}, "
            f"{key or certificate}); name a PEM certificate and its key, without a password"
        ) from error


def _require_readable(setting: str, file: Path) -> None:
    """Refuse what blocks or never ends when it is read, such as a FIFO or /dev/zero.

    Raises:
        SettingsError: it is not a regular file of moderate size.
    """
    try:
        require_regular(file, MAX_FILE_BYTES)
    except OSError as error:
        raise _unreadable(setting, file, str(error.strerror)) from error


def _unreadable(setting: str, file: Path, problem: str) -> SettingsError:
    return SettingsError(
        f"{setting}: cannot be read: {problem} (got {file}); correct the path, the file or its "
        "permissions"
    )
