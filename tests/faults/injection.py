"""Fault injection: a method of the running program fails or hangs, controlled by a file."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

PROGRAM: Final = Path(__file__).parents[2]
"""The folder of the program's package."""

HOOK: Final = """
import functools, importlib, os, time
from pathlib import Path
from edge_daemon.pipeline import Stage

_, *others = Stage.__init__.__defaults__
Stage.__init__.__defaults__ = (float(os.environ["FAULT_PATIENCE"]), *others)

module, _, names = os.environ["FAULT_PLACE"].partition(":")
owner, method = names.split(".")
owner, order = getattr(importlib.import_module(module), owner), Path(os.environ["FAULT_ORDER"])
real = getattr(owner, method)

@functools.wraps(real)
def faulty(*arguments):
    kind = order.read_text() if order.exists() else ""
    if kind == "hang":
        time.sleep(3600)
    if kind == "raise once":
        order.unlink()
    if kind:
        raise RuntimeError("injected,\\nin two lines")
    return real(*arguments)

setattr(owner, method, faulty)
"""
"""What Python runs in the program before anything else (see the module `site`)."""


class Fault(StrEnum):
    """The kinds of fault."""

    RAISE_ONCE = "raise once"
    RAISE = "raise"
    HANG = "hang"


PLACES: Final = {
    "detection": "edge_daemon.detection.haar:HaarDetector.detect",
    "inference": "edge_daemon.inference.ensemble:BatchModel.logits",
}
"""Places where the stages call other libraries."""


@dataclass(frozen=True)
class Injection:
    """A method of the program that fails on request.

    Args:
        folder: for the files by which that is done.
        place: the method, as `module:Class.method`.
        patience: seconds after which a stage is taken to be stuck; the program's own are 30.
    """

    folder: Path
    place: str
    patience: float = 30.0

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that install the fault in a program."""
        (self.folder / "sitecustomize.py").write_text(HOOK)
        return {
            "PYTHONPATH": f"{self.folder}:{PROGRAM}:{os.environ.get('PYTHONPATH', '')}",
            "FAULT_PLACE": self.place,
            "FAULT_ORDER": str(self._order),
            "FAULT_PATIENCE": str(self.patience),
        }

    def order(self, fault: Fault) -> None:
        """Enable the fault; `RAISE_ONCE` applies to the next call only."""
        draft = self._order.with_suffix(".draft")
        draft.write_text(fault)
        draft.rename(self._order)

    @property
    def happened(self) -> bool:
        """Whether a `RAISE_ONCE` fault has occurred."""
        return not self._order.exists()

    @property
    def _order(self) -> Path:
        return self.folder / "fault"
