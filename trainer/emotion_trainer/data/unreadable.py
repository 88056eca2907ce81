"""Unreadable rows and images: a few are skipped with a warning, many are an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emotion_trainer.errors import DataError, RowError

MAX_UNREADABLE: Final = 0.01
"""The share of a data set that may be skipped."""

MAX_LISTED: Final = 5
"""How many of them a warning or an error lists."""


@dataclass(frozen=True)
class Unreadable:
    """The skipped faces of a data set.

    Attributes:
        faults: for each, its row or file, and the problem.
        total: all images, also the readable ones.
    """

    faults: tuple[str, ...] = ()
    total: int = 0

    def __str__(self) -> str:
        return f"{len(self.faults)} of {self.total} images are unreadable"

    def notice(self) -> str:
        """The number of skipped faces and, a line each, the first of them."""
        more = len(self.faults) - MAX_LISTED
        lines = [f"{self} and skipped:", *(f"  {fault}" for fault in self.faults[:MAX_LISTED])]
        return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)


class Faults:
    """Collects the problems of the images of one data set."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._faults: list[str] = []

    @contextmanager
    def skipping(self) -> Iterator[None]:
        """A context that an unreadable image leaves early; the problem is recorded."""
        try:
            yield
        except RowError as error:
            self._faults.append(str(error))

    def settle(self, readable: int) -> Unreadable:
        """Compare the number of skipped samples with the number of readable ones.

        Raises:
            DataError: it is more than `MAX_UNREADABLE` of all.
        """
        unreadable = Unreadable(tuple(self._faults), readable + len(self._faults))
        if len(unreadable.faults) > MAX_UNREADABLE * unreadable.total:
            raise DataError(
                f"{self._source}: {unreadable}, more than {100 * MAX_UNREADABLE:.0f} %: "
                f"{'; '.join(unreadable.faults[:MAX_LISTED])}"
            )
        return unreadable
