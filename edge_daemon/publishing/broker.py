"""Where the broker is, and as whom to log in there."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge_daemon.config.settings import MqttSettings
from edge_daemon.errors import SettingsError

PORT: Final = 1883
PORT_WITH_TLS: Final = 8883

LONGEST_PASSWORD: Final = 65535
"""Bytes that MQTT has room for."""


@dataclass(frozen=True)
class Broker:
    """Where to connect and as whom."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    keepalive: int = 30
    """Seconds between two signs of life."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    will_delay: int = 0
    """Seconds that the broker waits with the last will; only MQTT 5 knows it."""
    session_expiry: int = 0
    """Seconds for which the broker keeps subscriptions and commands of one that is away."""
    tls: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def broker_from(settings: MqttSettings) -> Broker:
    """The broker that the settings name.

    Raises:
        SettingsError: the password or a certificate cannot be read, or there is no user for it.
    """
    if settings.password_file is not None and settings.username is None:
        raise SettingsError(f"mqtt.username: not set, but {settings.password_file} has a password")
    return Broker(
        host=settings.host,
        port=settings.port or (PORT_WITH_TLS if settings.tls else PORT),
        username=settings.username,
        password=_password(settings.password_file),
        keepalive=settings.keepalive,
        protocol=settings.protocol,
        will_delay=settings.will_delay,
        session_expiry=settings.session_expiry,
        tls=_tls(settings),
    )


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        with file.open(encoding="utf-8") as lines:
            password = lines.readline(LONGEST_PASSWORD + 1).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"mqtt.password_file: {file}: cannot be read: {error}") from error
    if len(password.encode()) > LONGEST_PASSWORD:
        raise SettingsError(f"mqtt.password_file: {file}: its first line is too long for MQTT")
    return password


def _tls(settings: MqttSettings) -> ssl.SSLContext | None:
    """A context that checks the broker's certificate and name; None without TLS."""
    for key in ("ca_file", "certificate_file", "key_file"):
        if not settings.tls and getattr(settings, key) is not None:
            raise SettingsError(f"mqtt.{key}: set, but mqtt.tls is not; set that to true")
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"mqtt.ca_file: {settings.ca_file}: no certificates: {error}"
        ) from error
    if settings.certificate_file is not None:
        _load_own(context, settings.certificate_file, settings.key_file)
    elif settings.key_file is not None:
        raise SettingsError("mqtt.certificate_file: not set, but mqtt.key_file is")
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # The password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"mqtt.certificate_file, mqtt.key_file: {certificate}, {key or certificate}: "
            f"cannot be used: {error}"
        ) from error
