"""The MQTT topics of a device, and a message to one of them, as all modules here pass it on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """A payload and how to deliver it."""

    topic: str
    payload: bytes
    retain: bool = False
    qos: int = 0


@dataclass(frozen=True)
class Topics:
    """The topics of one device."""

    base: str
    device_id: str

    @property
    def availability(self) -> str:
        return f"{self.base}/{self.device_id}/availability"

    @property
    def faces(self) -> str:
        return f"{self.base}/{self.device_id}/faces"

    @property
    def event(self) -> str:
        return f"{self.base}/{self.device_id}/event"

    @property
    def state(self) -> str:
        return f"{self.base}/{self.device_id}/state"

    @property
    def health(self) -> str:
        return f"{self.base}/{self.device_id}/health"

    @property
    def check(self) -> str:
        """Where `edge-daemon check` tests the right to publish."""
        return f"{self.base}/{self.device_id}/check"

    @property
    def set_paused(self) -> str:
        return f"{self.base}/{self.device_id}/set/paused"
