"""A source that is played again and again, for as many frames as are wanted."""

import dataclasses

from edge_daemon.capture import Picture, Reader, Source
from edge_daemon.errors import SettingsError


class Repeated:
    """Each round is a new scene, and time goes on.

    Args:
        source: files, whose every frame is read.
        frames: how many to give; None for one round, however long it is.

    Raises:
        SettingsError: the source is live, so its pace is not this machine's.
    """

    live = False

    def __init__(self, source: Source, frames: int | None) -> None:
        if source.live:
            raise SettingsError(f"bench: {source.name} is live; name a video, picture or folder")
        self.name = source.name
        self._source = source
        self._frames = frames

    def open(self) -> "RepeatedReader":
        return RepeatedReader(self._source, self._frames)


class RepeatedReader:
    """Opens the source anew where it ends."""

    def __init__(self, source: Source, frames: int | None) -> None:
        self._source = source
        self._left = frames
        self._reader: Reader = source.open()
        self._scene = self._next_scene = 0
        self._began = self._ended = 0.0

    def read(self) -> Picture | None:
        if self._left == 0:
            return None
        picture = self._reader.read()
        if picture is None and self._left is not None:
            picture = self._first_of_another_round()
        return None if picture is None else self._moved(picture)

    def close(self) -> None:
        self._reader.close()

    def _first_of_another_round(self) -> Picture | None:
        self._reader.close()
        self._reader = self._source.open()
        self._scene, self._began = self._next_scene, self._ended
        return self._reader.read()

    def _moved(self, picture: Picture) -> Picture:
        """The picture at its place in the time of all rounds."""
        if self._left is not None:
            self._left -= 1
        scene = self._scene + picture.scene
        stream_time = self._began + (picture.stream_time or 0.0)
        self._next_scene, self._ended = scene + 1, stream_time
        return dataclasses.replace(picture, scene=scene, stream_time=stream_time)
