"""The state of a source through all its openings, and the privacy switch.

Other threads read both. A paused camera is closed, and stays so when the program starts again.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.files import sync
from edge_daemon.errors import SourceLost
from edge_daemon.records import SourceState

logger = logging.getLogger(__name__)

LOG_INTERVAL_S: Final = 60.0
"""Shortest time between two losses in the log: a bad network may cause one each second."""

MAX_REASONS: Final = 3
"""Different reasons that the log gives for one loss."""

Observer = Callable[[], None]
"""Called after a change, by the thread that made it; must be quick and never raise."""


class Pause:
    """Whether the source is paused. May be used from any thread.

    An empty file saves a pause by its existence, so it cannot be half written. Where its existence
    is unknown, the source stays paused.

    Args:
        file: exists while the source is paused; None to save nothing.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._observers: tuple[Observer, ...] = ()
        self._subscribing = threading.Lock()
        self._setting = threading.Lock()
        self._saving = threading.Lock()
        self._saved = False if file is None else _is_saved(file)
        self._paused = self._saved is not False
        if self._paused:
            logger.warning("still paused", extra={"file": str(file)})

    @property
    def paused(self) -> bool:
        return self._paused

    @contextmanager
    def subscribed(self, observer: Observer) -> Iterator[None]:
        """Call the observer after each change within the context."""
        with self._subscribing:
            self._observers = (*self._observers, observer)
        try:
            yield
        finally:
            with self._subscribing:
                self._observers = tuple(each for each in self._observers if each != observer)

    def set(self, paused: bool) -> bool:  # noqa: FBT001  # the name explains the value
        """Pause or resume at once, then save that.

        Saving can block on the disk. The switch itself never does.

        Returns:
            Whether it is saved for the next start.
        """
        with self._setting:
            if paused != self._paused:
                self._paused = paused
                for observer in self._observers:
                    observer()
                logger.info("paused" if paused else "resumed")
        return self._file is None or self._save(self._file)

    def _save(self, file: Path) -> bool:
        with self._saving:
            paused = self._paused
            if paused != self._saved and _write(file, paused=paused):
                self._saved = paused
            return self._saved == paused


def _is_saved(file: Path) -> bool | None:
    """Whether the file exists; None if that is unknown."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        logger.warning("could not read pause state, staying paused", extra={"error": str(error)})
        return None
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


class SourceStatus:
    """Written by one thread at a time, the one that reads the source; any thread reads `state`.

    Args:
        source: the source's name.
        clock: the clock to use.
    """

    def __init__(self, source: str, clock: Clock) -> None:
        self.state = SourceState.STARTING
        self._source = source
        self._clock = clock
        self._lost_at: float | None = None
        self._logged_at = float("-inf")
        self._is_logged = False
        self._suppressed = 0
        self._reasons: list[str] = []

    @property
    def lost_s(self) -> float:
        """Seconds since the source was lost; 0 if it is not."""
        return 0.0 if self._lost_at is None else self._clock.monotonic() - self._lost_at

    def starting(self) -> None:
        self.state = SourceState.STARTING

    def paused(self) -> None:
        self.state = SourceState.PAUSED

    def lost(self, error: SourceLost | None = None) -> None:
        """Note that it gives no more frames.

        Args:
            error: the reason; None if it is in the log already.
        """
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            self._is_logged = False
            self._reasons = []
        if error is None:
            self._is_logged = True
        elif self._is_logged:
            self._log_other_reason(str(error))
        else:
            self._log_loss(str(error))
        self.state = SourceState.LOST

    def running(self) -> None:
        """Note that it gave a frame."""
        if self._lost_at is not None:
            away_s = round(self.lost_s, 1)
            self._lost_at = None
            if self._is_logged:
                logger.info("source is back", extra={"source": self._source, "seconds": away_s})
            else:
                self._suppressed += 1
        self.state = SourceState.RUNNING

    def _log_loss(self, reason: str) -> None:
        """Log a loss; one shortly after another is logged only if it lasts."""
        now = self._clock.monotonic()
        if now - self._logged_at < LOG_INTERVAL_S:
            return
        self._is_logged, self._logged_at = True, now
        self._reasons = [reason]
        extra: dict[str, object] = {"error": reason}
        if self._suppressed:
            extra["suppressed"] = self._suppressed
        self._suppressed = 0
        logger.warning("source lost, retrying", extra=extra)

    def _log_other_reason(self, reason: str) -> None:
        """A stream that ended may refuse the next connection, which hints at the cause."""
        if reason not in self._reasons and len(self._reasons) < MAX_REASONS:
            self._reasons.append(reason)
            logger.warning("source still lost, retrying", extra={"error": reason})
