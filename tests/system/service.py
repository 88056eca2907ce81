"""edge-daemon as a service in a box: installed from this source tree, and watched from outside."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from publishing.broker import Mosquitto, Subscriber, subscribed
from running import eventually
from system.box import CACHE, Box

ROOT: Final = Path(__file__).parents[2]

DEVICE: Final = "porch"
PASSWORD: Final = "open sesame"

GUEST: Final = "guest"
"""A device that publishes without a login."""

UNIT: Final = "edge-daemon.service"
INSTALLATION_LIMIT: Final = 300
"""Seconds; it takes half a minute, or longer on a busy machine."""


def copy_of_source(folder: Path) -> Path:
    """This source tree as it stands, without what is not to be committed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def wheelhouse(suite: str) -> Path:
    """Packages for this machine and a suite; gathered where they are not there yet."""
    folder = CACHE / f"{suite}-wheelhouse"
    made_of = CACHE / f"{suite}-wheelhouse.made-of"
    script = ROOT / "deploy" / "make-wheelhouse.sh"
    locks = [ROOT / "deploy" / "locks" / f"{name}.txt" for name in (suite, "build")]
    expected = "".join(file.read_text() for file in (script, *locks))
    if not (made_of.exists() and made_of.read_text() == expected):
        shutil.rmtree(folder, ignore_errors=True)
        machine = subprocess.check_output(["uname", "-m"], text=True).strip()
        words = [script, "--suite", suite, "--machine", machine, folder]
        subprocess.run(words, check=True, capture_output=True, timeout=INSTALLATION_LIMIT)
        made_of.write_text(expected)
    return folder


class Service:
    """The service, and what it publishes."""

    def __init__(self, box: Box, broker: Mosquitto, received: Subscriber) -> None:
        self.box = box
        self.broker = broker
        self.received = received

    def install(self, *words: object, source: str = "/opt/source") -> tuple[int, list[str]]:
        """Run the installer; its exit code, and the lines that it printed."""
        done = self.box.run(
            f"{source}/deploy/install.sh", *words, check=False, timeout=INSTALLATION_LIMIT
        )
        return done.returncode, done.stdout.splitlines()

    def install_for_the_first_time(self, *words: object, source: str = "/opt/source") -> list[str]:
        """With a clip for a camera, and a user of the broker; what the installer printed."""
        self.box.write("/root/credentials", f"{DEVICE}\n{PASSWORD}\n")
        code, lines = self.install(
            *("--source", "/opt/clip.mp4", "--set", "capture.loop=true"),
            *("--broker", f"127.0.0.1:{self.broker.port}", "--credentials", "/root/credentials"),
            *("--device-id", DEVICE, *words),
            source=source,
        )
        assert code == 0, lines
        return lines

    def property_of(self, name: str, unit: str = UNIT) -> str:
        """A property of the service, from systemd."""
        return self.box.output_of("systemctl", "show", unit, f"--property={name}", "--value")

    @property
    def process(self) -> str:
        """The number of its main process, in the box."""
        return self.property_of("MainPID")

    def wait_until_active(self, unit: str = UNIT) -> None:
        eventually(lambda: self.property_of("ActiveState", unit) == "active")

    def wait_for_results(self, device: str = DEVICE) -> None:
        """Wait for one that is published from now on."""
        so_far = len(self.received.on(f"{device}/faces"))
        self.received.wait_until(lambda: len(self.received.on(f"{device}/faces")) > so_far)

    def log(self, *words: str) -> str:
        """Its journal, or what of it fits."""
        return self.box.output_of("journalctl", "--quiet", "--output=cat", f"--unit={UNIT}", *words)


@contextmanager
def watched(box: Box, broker: Mosquitto) -> Iterator[Service]:
    with subscribed(broker.port, "edge-daemon") as received:
        yield Service(box, broker, received)
