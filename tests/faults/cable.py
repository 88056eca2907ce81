"""A network of its own for one process, at the end of a cable whose packets can get lost."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NOBODY = "02:00:00:00:00:99"
"""A network card that is not there: what is addressed to it is dropped, and nobody is told."""


class Cable:
    """Two network cards, one here, one in a namespace.

    Args:
        number: tells cables apart, 0 to 63.
    """

    def __init__(self, number: int) -> None:
        self.namespace = f"edge-daemon-{os.getpid()}-{number}"
        self.here, self.there = f"10.231.7.{4 * number + 1}", f"10.231.7.{4 * number + 2}"
        self.inside = ("ip", "netns", "exec", self.namespace)
        self._near, self._far = f"near{os.getpid()}-{number}", f"far{os.getpid()}-{number}"

    def lay(self) -> None:
        """Make the namespace and the way to it; needs root."""
        far, near, there = self._far, self._near, ("-n", self.namespace)
        _ip("netns", "add", self.namespace)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.namespace)
        _ip("address", "add", f"{self.here}/30", "dev", near)
        _ip(*there, "address", "add", f"{self.there}/30", "dev", far)
        _ip("link", "set", near, "up")
        _ip(*there, "link", "set", far, "up")

    def lose(self, *, outwards: bool, inwards: bool) -> None:
        """From now on packets out of the namespace, or into it, vanish."""
        if outwards:
            self._address("replace", self.here, self._far, "-n", self.namespace)
        if inwards:
            self._address("replace", self.there, self._near)

    def mend(self, *, outwards: bool, inwards: bool) -> None:
        if outwards:
            self._address("delete", self.here, self._far, "-n", self.namespace)
        if inwards:
            self._address("delete", self.there, self._near)

    def remove(self) -> None:
        _ip("netns", "delete", self.namespace)

    def _address(self, what: str, host: str, card: str, *where: str) -> None:
        """Say, or forget, that nobody's network card has a host's address."""
        _ip(*where, "neighbour", what, host, "lladdr", NOBODY, "dev", card, "nud", "permanent")


@contextmanager
def cables(number: int) -> Iterator[list[Cable]]:
    """Skips where they cannot be laid."""
    laid: list[Cable] = []
    try:
        for cable in map(Cable, range(number)):
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
