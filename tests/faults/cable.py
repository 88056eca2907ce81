"""A network namespace for one process, connected by a virtual cable that can lose packets."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

ABSENT_MAC = "02:00:00:00:00:99"
"""No network card has this address: packets to it are dropped without an ICMP error."""


class Cable:
    """Two network cards, one here, one in a namespace.

    Args:
        subnet: the first three bytes of its addresses.
        number: number of the cable, unique within the subnet, 0 to 63.
    """

    def __init__(self, subnet: str, number: int) -> None:
        self.namespace = f"edge-daemon-{os.getpid()}-{number}"
        self.here, self.there = f"{subnet}.{4 * number + 1}", f"{subnet}.{4 * number + 2}"
        self.inside = ("ip", "netns", "exec", self.namespace)
        self._near, self._far = f"near{os.getpid()}-{number}", f"far{os.getpid()}-{number}"

    def lay(self) -> None:
        """Create the namespace and its network interfaces; needs root."""
        far, near, there = self._far, self._near, ("-n", self.namespace)
        _ip("netns", "add", self.namespace)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.namespace)
        _ip("address", "add", f"{self.here}/30", "dev", near)
        _ip(*there, "address", "add", f"{self.there}/30", "dev", far)
        _ip("link", "set", near, "up")
        _ip(*there, "link", "set", far, "up")

    def lose(self, *, outbound: bool, inbound: bool) -> None:
        """Drop all packets out of the namespace, or into it, until they are restored."""
        if outbound:
            self._address("replace", self.here, self._far, "-n", self.namespace)
        if inbound:
            self._address("replace", self.there, self._near)

    def restore(self, *, outbound: bool, inbound: bool) -> None:
        if outbound:
            self._address("delete", self.here, self._far, "-n", self.namespace)
        if inbound:
            self._address("delete", self.there, self._near)

    def remove(self) -> None:
        _ip("netns", "delete", self.namespace)

    def _address(self, what: str, host: str, card: str, *where: str) -> None:
        """Set or delete a neighbour entry that maps a host to the absent card."""
        _ip(*where, "neighbour", what, host, "lladdr", ABSENT_MAC, "dev", card, "nud", "permanent")


@contextmanager
def cables(number: int) -> Iterator[list[Cable]]:
    """Yield cables in one subnet; skip the test if they cannot be created."""
    subnet = f"10.231.{random.SystemRandom().randrange(256)}"
    laid: list[Cable] = []
    try:
        for cable in (Cable(subnet, one) for one in range(number)):
            try:
                cable.lay()
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"needs ip, and root's rights to make network namespaces: {error}")
            laid.append(cable)
        yield laid
    finally:
        for cable in laid:
            cable.remove()


def _ip(*words: str) -> None:
    program = shutil.which("ip") or "/usr/sbin/ip"
    subprocess.run([program, *words], check=True, capture_output=True)
