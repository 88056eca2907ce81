"""A Debian of the tests' own, booted with a systemd of its own as process 1.

mmdebstrap makes the root once; it is kept in `CACHE`. systemd-nspawn boots it below a layer that
takes all that is written and goes with the test. It shares this machine's network, so that it
reaches the tests' broker, and package indexes as this machine does.
"""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from running import PATIENCE, eventually

CACHE: Final = Path(os.environ.get("EDGE_DAEMON_BOX") or Path.home() / ".cache/edge-daemon-box")

PACKAGES: Final = (
    *("ca-certificates", "dbus", "passwd", "procps", "systemd", "systemd-sysv", "udev"),
    *("python3-systemd", "python3-venv"),
)

ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "container": "systemd-nspawn",
}

POWER_OFF: Final = signal.SIGRTMIN + 4
"""What has systemd end everything in good order (systemd(1))."""

REBOOT: Final = 133
"""systemd-nspawn's exit code when it is to be started again."""

NETWORK_FILES: Final = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf"),
    "/etc/ssl/certs/ca-certificates.crt",
)
"""The network configuration of this machine."""

_numbers = itertools.count(1)


def missing() -> str | None:
    """What this machine lacks for a box; None if it lacks nothing."""
    if os.geteuid() != 0:
        return "needs root"
    programs = ("mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv")
    lacking = [name for name in programs if shutil.which(name) is None]
    return f"needs {', '.join(lacking)}" if lacking else _trouble_with_mounts()


def _trouble_with_mounts() -> str | None:
    """Why layers cannot be mounted: in most containers they cannot."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("written", "work", "root"):
            Path(folder, name).mkdir()
        options = f"lowerdir=/etc,upperdir={folder}/written,workdir={folder}/work"
        words = ["mount", "-t", "overlay", "overlay", f"{folder}/root", "-o", options]
        done = subprocess.run(
            ["unshare", "--mount", *words], capture_output=True, text=True, check=False
        )
    return None if done.returncode == 0 else " ".join(done.stderr.split())


def debian_root(suite: str) -> Path:
    """The root of a plain Debian, made where it is not there yet (about a minute)."""
    root = CACHE / f"{suite}-system"
    made_of = CACHE / f"{suite}-system.made-of"
    expected = ",".join(PACKAGES)
    if not (made_of.exists() and made_of.read_text() == expected):
        shutil.rmtree(root, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        words = [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
        ]
        words += ['--aptopt=Acquire::Check-Date "false"', '--aptopt=Acquire::Languages "none"']
        words += ["--dpkgopt=path-exclude=/usr/share/doc/*", suite, str(root)]
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL, timeout=600)
        made_of.write_text(expected)
    return root


def camera_root() -> Path:
    """The root of a Debian with the real picamera2 and libcamera's virtual camera (2 minutes)."""
    script = Path(__file__).parents[1] / "box" / "picamera2.sh"
    made = subprocess.run([script, "--root"], check=True, stdout=subprocess.PIPE, timeout=900)
    return Path(made.stdout.decode().splitlines()[-1])


class Box:
    """A booted machine. `run` works in it as root."""

    def __init__(self, root: Path, layer: Path, binds: Sequence[tuple[Path, str]]) -> None:
        self._root = root
        self._layer = layer
        files = [(Path(file), file) for file in NETWORK_FILES if Path(file).exists()]
        self._binds = [
            f"--bind-ro={source.resolve()}:{target}" for source, target in [*files, *binds]
        ]
        self._cgroup = f"edge-daemon-box-{os.getpid()}-{next(_numbers)}"
        self._boot()

    def _boot(self) -> None:
        console = self._layer / "console.log"
        # Whatever ends this process ends the box, and with it the mounts of its namespace.
        words = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount"]
        words += [Path(__file__).with_name("boot.sh"), self._root, self._layer, self._cgroup]
        with console.open("ab") as file:
            self._nspawn = subprocess.Popen(
                [*words, *self._binds], stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        eventually(lambda: self._has_ended or self._listens)
        assert not self._has_ended, console.read_text()
        eventually(lambda: self.succeeds("systemctl", "is-active", "multi-user.target"))

    def run(
        self, *words: object, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; its output, errors included, is `stdout`."""
        done = subprocess.run(
            [*self._enter(), *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}"
        return done

    def output_of(self, *words: object) -> str:
        """The output of a command inside."""
        return self.run(*words).stdout.strip()

    def succeeds(self, *words: object) -> bool:
        return self.run(*words, check=False).returncode == 0

    def write(self, path: str, content: str) -> None:
        self.run("mkdir", "-p", str(Path(path).parent))
        subprocess.run(
            [*self._enter(), "tee", path],
            input=content,
            text=True,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def reboot(self) -> None:
        """Returns when it is up again."""
        self.run("systemctl", "reboot", check=False)
        assert self._nspawn.wait(PATIENCE) == REBOOT
        self._boot()

    def power_off(self) -> None:
        if (process := self._first_process) is not None:
            os.kill(process, POWER_OFF)
        try:
            self._nspawn.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        for top in Path("/sys/fs/cgroup").glob(f"**/{self._cgroup}"):
            for folder, *_ in os.walk(top, topdown=False):
                Path(folder).rmdir()

    @property
    def _first_process(self) -> int | None:
        """The number, out here, of the box's process 1."""
        number = self._nspawn.pid
        try:
            children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        except FileNotFoundError:
            return None
        return int(children[0]) if children else None

    @property
    def _has_ended(self) -> bool:
        return self._nspawn.poll() is not None

    @property
    def _listens(self) -> bool:
        return self._first_process is not None and self.succeeds(
            "test", "-S", "/run/dbus/system_bus_socket"
        )

    def _enter(self) -> list[str]:
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wdns=/")
        return ["nsenter", f"--target={self._first_process}", *spaces]


@contextmanager
def booted(root: Path, layer: Path, *binds: tuple[Path, str]) -> Iterator[Box]:
    """A box with folders and files of this machine in it, read-only.

    Args:
        root: what it is booted from.
        layer: an empty folder for what is written.
        binds: this machine's folders and files, and where they are in the box.
    """
    box = Box(root, layer, binds)
    try:
        yield box
    finally:
        box.power_off()
