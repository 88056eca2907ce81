"""The privacy switch: a paused camera is closed, and stays so when the program starts again."""

import logging
import threading
from pathlib import Path

from edge_daemon._lib.files import sync
from edge_daemon._lib.observable import Observable

logger = logging.getLogger(__name__)


class Pause(Observable):
    """Whether the source is paused. May be used from any thread.

    An empty file saves a pause by its existence, so it cannot be half written. Where its existence
    is unknown, the source stays paused.

    Args:
        file: exists while the source is paused; None to save nothing.
    """

    def __init__(self, file: Path | None = None) -> None:
        super().__init__()
        self._file = file
        self._setting = threading.Lock()
        self._saving = threading.Lock()
        self._paused = self._saved = file is not None and _is_saved(file)
        if self._paused:
            logger.warning("still paused", extra={"file": str(file)})

    @property
    def paused(self) -> bool:
        return self._paused

    def set(self, paused: bool) -> bool:  # noqa: FBT001  # the name explains the value
        """Pause or resume at once, then save that; whether it is saved for the next start.

        Saving can block on the disk. The switch itself never does.
        """
        with self._setting:
            if paused != self._paused:
                self._paused = paused
                self._notify()
                logger.info("paused" if paused else "resumed")
        return self._file is None or self._save(self._file)

    def _save(self, file: Path) -> bool:
        with self._saving:
            paused = self._paused
            if paused != self._saved and _write(file, paused=paused):
                self._saved = paused
            return self._saved == paused


def _is_saved(file: Path) -> bool:
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        logger.warning("could not read pause state, staying paused", extra={"error": str(error)})
    return True


def _write(file: Path, *, paused: bool) -> bool:
    try:
        if paused:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        else:
            file.unlink(missing_ok=True)
        sync(file.parent)
    except OSError as error:
        logger.warning("could not save pause state", extra={"error": str(error)})
        return False
    return True
