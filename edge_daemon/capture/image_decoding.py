"""Decoding of still images: from a file or its bytes to pixels, and whether it is intact."""

import io
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple

import cv2
import numpy as np

from edge_daemon._lib.files import read_regular
from edge_daemon.errors import SourceError
from edge_daemon.records import MAX_IMAGE_PIXELS, Image

JPEG_START: Final = b"\xff\xd8\xff"
PNG_START: Final = b"\x89PNG\r\n\x1a\n"
PAM_START: Final = b"P7\n"
GIF_START: Final = b"GIF8"
TIFF_STARTS: Final[dict[bytes, Literal["little", "big"]]] = {
    b"II*\x00": "little",
    b"MM\x00*": "big",
}

HEIC_SUFFIXES: Final = frozenset({".heic", ".heif", ".hif"})

READABLE_IMAGE_SUFFIXES: Final = HEIC_SUFFIXES | {
    ".avif", ".bmp", ".gif", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg", ".pjpeg", ".png", ".tif",
    ".tiff", ".webp",
}  # fmt: skip

UNSUPPORTED: Final = "not an image in a supported format, or damaged"

HEIC_HINT: Final = "pip install 'edge-daemon[heic]'"


class ImageError(SourceError):
    """Raised when an image cannot be decoded, because of `problem`."""

    def __init__(self, problem: str, path: Path | None = None) -> None:
        super().__init__(problem if path is None else f"{path}: {problem}")
        self.problem = problem


def read_image(path: Path) -> Image:
    """Read an image file: BGR uint8 [H, W, 3], turned upright as its EXIF orientation asks.

    Raises:
        ImageError: as `read_still` does.
    """
    return read_still(path).bgr


class Still(NamedTuple):
    """An image as it is read, which of a very large JPEG is reduced."""

    bgr: Image
    """BGR uint8 [H, W, 3], turned upright as its EXIF orientation asks."""
    reduction: int
    """Pixels of the file's image in one of `bgr`, in each direction."""
    images: int = 1
    """Images in the file, such as frames of an animation, of which this is the first."""


def read_still(path: Path) -> Still:
    """Read an image file.

    Raises:
        ImageError: it cannot be read, is damaged, too large, or of an unsupported format.
    """
    try:
        data = read_regular(path)
        info = jpeg_info(data) if data.startswith(JPEG_START) else None
        reduction = 1 if info is None else _jpeg_reduction(info)
        still = Still(_decode_file(path, data), reduction, count_images(data))
        _check_intact(data, info)
    except OSError as error:
        raise ImageError(str(error.strerror), path) from error
    except ImageError as error:
        raise ImageError(error.problem, path) from error
    return still


def _decode_file(path: Path, data: bytes) -> Image:
    """Decode an image; one that OpenCV does not know is left to FFmpeg, which uses the suffix."""
    from edge_daemon.capture.video_decoding import is_single_image

    try:
        return decode_image(data)
    except ImageError as error:
        is_known = path.suffix.lower() in READABLE_IMAGE_SUFFIXES  # FFmpeg decodes damaged ones
        if error.problem != UNSUPPORTED or is_known or not is_single_image(path):
            raise
        image = _decode_with_ffmpeg(f"file:{path}")
        if image is None:
            raise
        return image


END_OF_IMAGE: Final = 0xD9
START_OF_IMAGE: Final = 0xD8
START_OF_SCAN: Final = 0xDA

WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that stand alone: TEM and the restarts."""

FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segment with the image's size: all SOF."""

MARKER_AFTER_SCAN: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""The marker that ends entropy-coded data, in which 0xFF stands before 0 and restarts only.

Without `+`, Python finds the first byte with `memchr`, which is 20 times as fast.
"""


class JpegInfo(NamedTuple):
    """The first image in some data."""

    end: int
    """Index after its last byte."""
    width: int
    height: int


def jpeg_info(data: bytes) -> JpegInfo | None:
    """Find the first complete image (ITU-T T.81, annex B); None if it is not complete."""
    size = (0, 0)
    offset = 2
    while (marker := _marker_at(data, offset)) is not None:
        code, offset = marker
        if code == END_OF_IMAGE:
            return JpegInfo(offset, *size)
        if code == START_OF_IMAGE:
            return None  # of another image, so the end of this one is missing
        if code in WITHOUT_LENGTH:
            continue
        segment = offset
        offset += int.from_bytes(data[offset : offset + 2], "big")
        if code in FRAME_HEADERS:
            height, width = data[segment + 3 : segment + 5], data[segment + 5 : segment + 7]
            size = (int.from_bytes(width, "big"), int.from_bytes(height, "big"))
        elif code == START_OF_SCAN:
            end = MARKER_AFTER_SCAN.search(data, offset)
            if end is None:
                return None
            offset = end.start()
    return None


def _marker_at(data: bytes, offset: int) -> tuple[int, int] | None:
    """The code of the next marker from here on, and the offset after it; None at the end."""
    start = data.find(b"\xff", offset)  # libjpeg skips garbage between segments, too
    if start < 0:
        return None
    while start < len(data) and data[start] == 0xFF:
        start += 1
    return (data[start], start + 1) if start < len(data) else None


MAX_SURPLUS_PART: Final = 20
"""A twentieth of a JPEG's data that is not needed shows damage: zeros are short codes."""

MIN_SURPLUS_BYTES: Final = 64

MARKER: Final = re.compile(rb"\xff[\x01-\xfe]")


def _check_intact(data: bytes, info: JpegInfo | None) -> None:
    """Find damage that the decoder of a JPEG or GIF fills with grey, or with the last colour.

    Images of cameras are not checked, since one that always breaks the rules would be lost.

    Raises:
        ImageError: it is damaged.
    """
    if info is not None and not _has_intact_scans(data[: info.end]):
        raise ImageError("damaged JPEG")
    if data.startswith(GIF_START) and count_gif(data) is None:
        raise ImageError("truncated or damaged GIF")


def _has_intact_scans(data: bytes) -> bool:
    """Whether a complete JPEG decodes without an error, and needs all of its data."""
    if not _decodes(data):
        return False
    start = len(data) - max(MIN_SURPLUS_BYTES, len(data) // MAX_SURPLUS_PART)
    surplus = data[start:-2]
    is_scan = start > len(data) // 2 and MARKER.search(surplus) is None
    is_padding = len(set(surplus)) <= 2
    return not is_scan or is_padding or not _decodes(data[:start] + data[-2:])


def _decodes(data: bytes) -> bool:
    """Whether FFmpeg finds no error in a JPEG; libjpeg only prints a warning."""
    import av
    from av.error import InvalidDataError

    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode", "lowres": "3"}  # an eighth of the size, for speed
    try:
        decoder.decode(av.Packet(data))
    except InvalidDataError:
        return False
    except av.FFmpegError:  # a kind of JPEG that FFmpeg does not support
        return True
    return True


def decode_image(data: bytes) -> Image:
    """Decode an image, of which the content shows the format.

    Returns:
        BGR uint8 [H, W, 3], whatever the depth and channels, turned upright as EXIF asks.

    Raises:
        ImageError: it is damaged, too large, or of an unsupported format.
    """
    if data.startswith(JPEG_START):
        return decode_jpeg(data, jpeg_info(data))
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return _decode_heic(data)
    if data.startswith(PAM_START):
        raise ImageError(UNSUPPORTED)  # OpenCV exchanges red and blue; FFmpeg reads files of it
    is_avif = brand in {b"avif", b"avis"}
    image = None
    if is_avif and b"grid" not in data[: data.find(b"mdat")]:  # FFmpeg gives a grid's first tile
        image = _decode_with_ffmpeg(data)  # OpenCV does not turn the image as `irot` asks
    if image is None:
        image = _decode_with_opencv(data, cv2.IMREAD_COLOR)
        if image is not None and data.startswith((PNG_START, *TIFF_STARTS)):
            image = _with_full_range(image, data)
    if image is None and data.startswith(GIF_START):
        image = _decode_with_ffmpeg(data)  # for an OpenCV that is built without GIF
    if image is None:
        raise ImageError(UNSUPPORTED)
    return image


MAX_PIXELS_PER_JPEG_BYTE: Final = 512
"""Each block of 64 pixels takes a bit or more; a damaged header may state any size."""

JPEG_REDUCTIONS: Final = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Factors by which libjpeg reduces an image's sides, with OpenCV's flags for them."""


def decode_jpeg(data: bytes, info: JpegInfo | None) -> Image:
    """Decode the first image of some data to BGR uint8 [H, W, 3]; what follows it does not matter.

    Args:
        data: which starts with a JPEG.
        info: what `jpeg_info` found in it.

    Raises:
        ImageError: it is damaged or too large.
    """
    if info is None:
        raise ImageError("truncated or damaged JPEG")
    if info.width * info.height > MAX_PIXELS_PER_JPEG_BYTE * info.end:
        raise ImageError(f"damaged JPEG ({info.width}x{info.height} pixels in {info.end} bytes)")
    image = _decode_with_opencv(data[: info.end], JPEG_REDUCTIONS[_jpeg_reduction(info)])
    if image is None:
        raise ImageError("damaged JPEG")
    return image


def _jpeg_reduction(info: JpegInfo) -> int:
    """The factor by which to reduce the sides of a JPEG.

    Raises:
        ImageError: it is too large even with the largest factor.
    """
    for factor in JPEG_REDUCTIONS:
        if info.width * info.height <= MAX_IMAGE_PIXELS * factor**2:
            return factor
    raise ImageError(f"too large ({info.width}x{info.height} pixels)")


def _decode_with_opencv(data: bytes, flag: int) -> Image | None:
    if not data:
        raise ImageError("no data")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        if "MAX_IMAGE" in str(error):  # _PIXELS, _WIDTH or _HEIGHT
            raise ImageError("too large") from error
        return None
    return None if image is None else np.asarray(image, np.uint8)


SENSOR_BITS: Final = (8, 10, 12, 14, 16)
"""Bits of the samples that files with 16 bits hold; a black image may have any."""

MAX_LOW_VALUE: Final = 64
"""Maximum of an image whose samples may have at most 14 of 16 bits, from its upper 8."""


def _with_full_range(image: Image, data: bytes) -> Image:
    """The image, or a brighter one if its 16-bit samples hold those of a sensor with fewer bits.

    Such samples are mostly stored as they are, in the lower bits.

    Args:
        image: decoded from the upper 8 bits.
        data: the file.
    """
    if image.max() > MAX_LOW_VALUE:
        return image
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if samples is None or samples.dtype != np.uint16:
        return image
    maximum = int(samples.max())
    bits = next(bits for bits in SENSOR_BITS if maximum < 1 << bits)
    return np.asarray(np.asarray(samples, np.uint16) >> (bits - 8), np.uint8)


def _decode_heic(data: bytes) -> Image:
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(f"HEIC is not supported in this installation; {HEIC_HINT}") from error
    try:
        image = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True, bgr_mode=True)
        if image.size[0] * image.size[1] > MAX_IMAGE_PIXELS:
            raise ImageError(f"too large ({image.size[0]}x{image.size[1]} pixels)")
        pixels = np.asarray(image)
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:
        raise ImageError(f"damaged HEIC ({error})") from error
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.ascontiguousarray(pixels[..., :3], np.uint8)


def _decode_with_ffmpeg(source: bytes | str) -> Image | None:
    """The first frame, or None if there is none that can be decoded."""
    from av.error import FFmpegError

    from edge_daemon.capture.video_decoding import NoVideo, VideoDecoder, open_container

    try:
        container = open_container(source if isinstance(source, str) else io.BytesIO(source))
    except FFmpegError:
        return None
    try:
        decoder = VideoDecoder(container)
        if decoder.pixels > MAX_IMAGE_PIXELS:
            raise ImageError("too large")
        frame = decoder.read()
        return None if frame is None else decoder.to_bgr(frame)
    except (FFmpegError, NoVideo):
        return None
    finally:
        container.close()


GIF_HEADER_BYTES: Final = 13
GIF_IMAGE_BYTES: Final = 10
GIF_IMAGE: Final = 0x2C
GIF_EXTENSION: Final = 0x21
GIF_TRAILER: Final = 0x3B
"""The byte that ends a GIF, as the two above begin its blocks."""

TIFF_ENTRY_BYTES: Final = 12
TIFF_SUBFILE_TYPE: Final = 254
"""Tag of which bit 0 marks a page that is a thumbnail."""

MAX_PAGES: Final = 10_000
"""Pages of a TIFF that are counted; in a damaged one, a page can refer to an earlier one."""


def count_images(data: bytes) -> int:
    """Count the frames or pages of a PNG, WebP, AVIF, GIF or TIFF file; 1 for all others."""
    if data.startswith(PNG_START):
        return _count_png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return max(1, _count_webp(data))
    if data[4:12] == b"ftypavis":
        return max(1, _count_avif(data))
    if data.startswith(GIF_START):
        return max(1, count_gif(data) or 0)
    order = TIFF_STARTS.get(data[:4])
    return 1 if order is None else max(1, _count_tiff(data, order))


def _count_png(data: bytes) -> int:
    """The frames that the animation control chunk states, which precedes the image data."""
    start = data.find(b"acTL", 0, max(0, data.find(b"IDAT")))
    return 1 if start < 0 else max(1, int.from_bytes(data[start + 4 : start + 8], "big"))


def _count_webp(data: bytes) -> int:
    """The chunks that hold a frame of an animation."""
    place = 12
    frames = 0
    while place < len(data):
        frames += data[place : place + 4] == b"ANMF"
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return frames


def _count_avif(data: bytes) -> int:
    """The samples of the first track that the sample size box states."""
    start = data.find(b"stsz")
    return 1 if start < 0 else int.from_bytes(data[start + 12 : start + 16], "big")


def count_gif(data: bytes) -> int | None:
    """Count the images up to the trailer (GIF89a, appendix A); None if the file is truncated."""
    images = 0
    place = GIF_HEADER_BYTES + _colour_table_bytes(data, GIF_HEADER_BYTES - 3)
    while place < len(data):
        introducer = data[place]
        if introducer == GIF_TRAILER:
            return images
        if introducer == GIF_IMAGE:
            images += 1
            place += GIF_IMAGE_BYTES + _colour_table_bytes(data, place + GIF_IMAGE_BYTES - 1)
            place += 1  # the size of its codes
        elif introducer == GIF_EXTENSION:
            place += 2
        else:
            return None
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
    return None


def _colour_table_bytes(data: bytes, place: int) -> int:
    """Length of the colour table that the packed field at this place states."""
    packed = data[place] if place < len(data) else 0
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


def _count_tiff(data: bytes, order: Literal["little", "big"]) -> int:
    """The pages that are no thumbnails (TIFF 6.0, section 2)."""

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], order)

    pages = 0
    place = number(4, 4)
    for _ in range(MAX_PAGES):
        if not 0 < place < len(data):
            break
        first, entries = place + 2, number(place, 2)
        end = first + TIFF_ENTRY_BYTES * entries
        types = [
            number(entry + 8, 4)
            for entry in range(first, min(end, len(data)), TIFF_ENTRY_BYTES)
            if number(entry, 2) == TIFF_SUBFILE_TYPE
        ]
        pages += not (types and types[0] & 1)
        place = number(end, 4)
    return pages
