"""The compose file."""

from pathlib import Path

import yaml

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"


def test_compose_services_start_after_a_reboot() -> None:
    """Docker's `on-failure` restarts a container that fails, but not when Docker itself starts."""
    services = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    policies = {name: service["restart"] for name, service in services.items()}
    assert policies == dict.fromkeys(policies, "unless-stopped")
