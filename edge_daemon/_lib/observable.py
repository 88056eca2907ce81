"""Objects that notify observers of their changes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observer = Callable[[], None]
"""Called after a change, by the thread that made it; must be quick and never raise."""


class Observable:
    """Base of objects that observers subscribe to. May be used from any thread."""

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()
        self._subscribing = threading.Lock()

    def subscribe(self, observer: Observer) -> None:
        """Call the observer after each change."""
        with self._subscribing:
            self._observers = (*self._observers, observer)

    @contextmanager
    def subscribed(self, observer: Observer) -> Iterator[None]:
        """Call the observer after each change within the context."""
        self.subscribe(observer)
        try:
            yield
        finally:
            with self._subscribing:
                self._observers = tuple(each for each in self._observers if each != observer)

    def _notify(self) -> None:
        for observer in self._observers:
            observer()
