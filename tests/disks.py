"""Disks that are full, read-only, or hang."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def own_disk(folder: Path, size: str) -> Iterator[bool]:
    """A disk in memory; whether it could be mounted, or the folder is just a folder."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def small_disk(folder: Path, size: str = "256k") -> Iterator[Path]:
    """A separate disk; skip the test if none can be mounted."""
    with own_disk(folder, size) as mounted:
        if not mounted:
            pytest.skip("may not mount: needs root")
        yield folder


def fill_up(folder: Path) -> Path:
    """Fill the disk; return the file that uses the space."""
    file = folder / "ballast"
    with file.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            return file


HANGING_FSYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int wait_and_call(const char *name, int file) {
    const char *order = getenv("FSYNC_HANGS_WHILE");
    while (order && access(order, F_OK) == 0) usleep(20000);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
}

int fsync(int file) { return wait_and_call("fsync", file); }
int fdatasync(int file) { return wait_and_call("fdatasync", file); }
"""


class HangingDisk:
    """A disk whose fsync hangs while `hang` is in force, for a program that is run `inside`."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("needs a C compiler")
        library = folder / "hanging_fsync.so"
        command = [compiler, "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"]
        subprocess.run(command, input=HANGING_FSYNC.encode(), check=True)
        self._order = folder / "fsync-hangs"
        self.inside = ("env", f"LD_PRELOAD={library}", f"FSYNC_HANGS_WHILE={self._order}")

    def hang(self) -> None:
        self._order.touch()

    def recover(self) -> None:
        self._order.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written into the folder; for root, whom rights do not stop, it is a disk."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    else:
        folder.chmod(0o500)
    try:
        yield
    finally:
        if os.geteuid() == 0:
            subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        else:
            folder.chmod(0o700)
