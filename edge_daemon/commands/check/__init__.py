"""`edge-daemon check`: whether everything a run needs works. `checks_for` is the registry."""

from edge_daemon.commands.check.broker import check_broker
from edge_daemon.commands.check.camera import check_source
from edge_daemon.commands.check.finding import Check
from edge_daemon.commands.check.machine import (
    check_board,
    check_clock,
    check_state_folder,
    check_systemd,
)
from edge_daemon.commands.check.models import check_bundle, check_detector, check_runtime
from edge_daemon.config.settings import Settings

__all__ = ["Check", "checks_for"]


def checks_for(settings: Settings) -> list[Check]:
    """The checks for these settings, in order."""
    broker = [Check("broker", check_broker, limit_s=25.0)] if settings.sink == "mqtt" else []
    return [
        Check("bundle", check_bundle),
        Check("runtime", check_runtime, limit_s=30.0),
        Check("detector", check_detector),
        Check("source", check_source, limit_s=20.0),
        *broker,
        Check("state", check_state_folder),
        Check("clock", check_clock),
        Check("board", check_board),
        Check("systemd", check_systemd),
    ]
