"""Stands in for kms++'s Python binding, which Debian has not.

picamera2 imports it for its preview on a screen, which a headless program never opens.
"""


class _Names(type):
    def __getattr__(cls, name: str) -> None:
        return None


class PixelFormat(metaclass=_Names):
    pass
