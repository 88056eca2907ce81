"""In the box, picamera2's last line calls `fit`: what it lacks for libcamera's virtual camera."""

from functools import wraps


def fit(camera_type: type) -> None:
    """Teach `Picamera2` to do without a sensor."""
    from picamera2.allocators import LibcameraAllocator

    real_init = camera_type.__init__

    @wraps(real_init)
    def init(self: object, *args: object, **kwargs: object) -> None:
        real_init(self, *args, **kwargs)
        # The camera's buffers have two planes; picamera2's own allocator makes one.
        self.allocator = LibcameraAllocator(self.camera)

    camera_type.__init__ = init
    # There is no raw stream to ask for.
    camera_type._get_raw_modes = lambda _self: [{"format": "SRGGB10", "size": (1280, 720)}]
