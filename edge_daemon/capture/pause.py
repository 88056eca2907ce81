"""The privacy switch: a paused camera is closed, and stays so when the program starts again."""

import logging
import threading
from pathlib import Path

from edge_daemon._lib.files import sync
from edge_daemon._lib.observable import Observable

logger = logging.getLogger(__name__)


class Pause(Observable):
    """Whether the source is paused. May be used from any thread.

    What remembers a pause is that a file is there. Without content it cannot be half written, and
    where it cannot be told whether it is there, the source stays paused.

    Args:
        file: what remembers the pause; None to forget it with this object.
    """

    def __init__(self, file: Path | None = None) -> None:
        super().__init__()
        self._file = file
        self._setting = threading.Lock()
        self._paused = file is not None and _remembers(file)
        if self._paused:
            logger.warning("still paused", extra={"remembered_by": str(file)})

    @property
    def paused(self) -> bool:
        return self._paused

    def set(self, paused: bool) -> None:  # noqa: FBT001  # the name says what the value means
        """Pause or resume; it takes effect before it is remembered."""
        with self._setting:
            if paused == self._paused:
                return
            self._paused = paused
            self._notify()
            logger.info("paused" if paused else "resumed")
            if self._file is not None:
                _remember(self._file, paused=paused)


def _remembers(file: Path) -> bool:
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        logger.warning("cannot tell whether the source was paused", extra={"error": str(error)})
    return True


def _remember(file: Path, *, paused: bool) -> None:
    try:
        if paused:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        else:
            file.unlink(missing_ok=True)
        sync(file.parent)
    except OSError as error:
        logger.warning("the next start will not know of this", extra={"error": str(error)})
