"""Where the broker is, and as whom to log in there."""

from dataclasses import dataclass
from pathlib import Path

from edge_daemon.config import MqttSettings
from edge_daemon.errors import SettingsError


@dataclass(frozen=True)
class Broker:
    """Where to connect and as whom."""

    host: str
    port: int
    username: str | None
    password: str | None
    keepalive: int
    """Seconds."""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def broker_from(settings: MqttSettings) -> Broker:
    """The broker that the settings name.

    Raises:
        SettingsError: the file with the password cannot be read.
    """
    return Broker(
        settings.host,
        settings.port,
        settings.username,
        _password(settings.password_file),
        settings.keepalive,
    )


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"mqtt.password_file: {file}: cannot be read: {error}") from error
