import io
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from capture.media import (
    COLOURED,
    SCENE,
    all_from,
    cut,
    mean_difference,
    needs_ffmpeg,
    picture,
    video,
)
from drawing import Image
from PIL import Image as Pillow

from edge_daemon.capture import create_source
from edge_daemon.capture.base import SourceKind
from edge_daemon.capture.image_decoding import (
    HEIC_SUFFIXES,
    MAX_PAGES,
    READABLE_IMAGE_SUFFIXES,
    ImageError,
    count_images,
    decode_image,
    jpeg_info,
    read_image,
)
from edge_daemon.capture.images import ImageFile, ImageFolder, list_folder
from edge_daemon.capture.videos import VideoFile

GREY = cv2.cvtColor(SCENE, cv2.COLOR_BGR2GRAY)


def encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, image, options)[1])


@pytest.mark.parametrize("suffix", sorted(READABLE_IMAGE_SUFFIXES - HEIC_SUFFIXES))
def test_image_of_any_format_is_decoded_as_bgr(tmp_path: Path, suffix: str) -> None:
    path = picture(tmp_path / f"colour{suffix}", COLOURED)
    assert mean_difference(smooth(read_image(path)), COLOURED) < 8


def smooth(image: Image) -> Image:
    """Without the dithering of a GIF's few colours."""
    return np.asarray(cv2.blur(image, (15, 15)), np.uint8)


def heic(path: Path, image: np.ndarray = COLOURED) -> Path:
    pillow_heif = pytest.importorskip("pillow_heif")
    size = (image.shape[1], image.shape[0])
    pillow_heif.from_bytes("BGR", size, image.tobytes()).save(path, quality=90)
    return path


def test_heic_image_is_decoded_as_bgr(tmp_path: Path) -> None:
    assert mean_difference(read_image(heic(tmp_path / "photo.heic")), COLOURED) < 4


def test_damaged_heic_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        read_image(cut(heic(tmp_path / "photo.heic"), 0.5))


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".gif", ".avif"])
def test_image_that_opencv_lacks_is_decoded_by_ffmpeg(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path / f"colour{suffix}", COLOURED)
    monkeypatch.setattr("cv2.imdecode", lambda *_: None)
    assert mean_difference(smooth(read_image(path)), COLOURED) < 8


@needs_ffmpeg
def test_single_gif_plays_as_a_video(tmp_path: Path) -> None:
    source = create_source(str(video(tmp_path / "clip.gif")))
    assert isinstance(source, VideoFile)
    assert len(all_from(source)) == 40


def test_single_gif_with_one_frame_is_an_image(tmp_path: Path) -> None:
    source = create_source(str(picture(tmp_path / "face.gif")))
    assert isinstance(source, ImageFile)
    assert len(all_from(source)) == 1


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".webp"])
def test_image_with_another_suffix_is_an_image(tmp_path: Path, suffix: str) -> None:
    path = picture(tmp_path / f"face{suffix}").rename(tmp_path / "face.download")
    assert isinstance(create_source(str(path)), ImageFile)


@pytest.mark.parametrize("suffix", [".jfif", ".jif", ".pjpeg"])
def test_jpeg_with_a_rare_suffix_is_an_image(tmp_path: Path, suffix: str) -> None:
    path = picture(tmp_path / "face.jpg").rename(tmp_path / f"face{suffix}")
    assert isinstance(create_source(str(path)), ImageFile)
    assert list_folder(tmp_path).images == [path]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("clip.mjpeg", encoded(".jpg", SCENE)),
        ("clip.avi", b"RIFF\x00\x00\x00\x00AVI LIST"),
        ("words.txt", b"BMI and other words"),
        ("empty.gif", b""),
    ],
)
def test_file_that_starts_like_an_image_is_a_video(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert isinstance(create_source(str(path)), VideoFile)


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("deep.png", COLOURED.astype(np.uint16) * 257, COLOURED),
        ("deep.tiff", COLOURED.astype(np.uint16) * 257, COLOURED),
        ("deep_grey.png", GREY.astype(np.uint16) * 257, SCENE),
        ("deep_grey.tiff", GREY.astype(np.uint16) * 257, SCENE),
        ("grey.png", GREY, SCENE),
        ("grey.jpg", GREY, SCENE),
        ("grey.tiff", GREY, SCENE),
        ("rgba.png", cv2.cvtColor(COLOURED, cv2.COLOR_BGR2BGRA), COLOURED),
        ("UPPER.PNG", COLOURED, COLOURED),
    ],
)
def test_every_depth_and_number_of_channels_becomes_8_bit_bgr(
    tmp_path: Path, name: str, image: np.ndarray, expected: Image
) -> None:
    assert mean_difference(read_image(picture(tmp_path / name, image)), expected) < 2


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_samples_of_fewer_bits_fill_the_range(tmp_path: Path, suffix: str, bits: int) -> None:
    samples = COLOURED.astype(np.uint16) << (bits - 8)
    assert mean_difference(read_image(picture(tmp_path / f"a{suffix}", samples)), COLOURED) < 1


@pytest.mark.parametrize("image", [COLOURED // 8, np.zeros(SCENE.shape, np.uint16)])
def test_dark_image_stays_dark(tmp_path: Path, image: np.ndarray) -> None:
    assert mean_difference(read_image(picture(tmp_path / "a.png", image)), image) == 0


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".tiff", ".webp"])
def test_truncated_image_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    with pytest.raises(ImageError):
        read_image(cut(picture(tmp_path / f"face{suffix}"), share))


def test_truncated_jpeg_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path / "face.jpg")
    monkeypatch.setattr("cv2.imdecode", lambda *_: SCENE)
    assert np.array_equal(read_image(path), SCENE)
    with pytest.raises(ImageError):
        read_image(cut(path, 0.8))


OTHER = encoded(".jpg", np.zeros((40, 40, 3), np.uint8))

TRAILERS = {
    "notes": b"\x00 a camera's own notes",
    "another image": OTHER,
    "a truncated image": OTHER[:-20],
    "marker bytes": b"\xff\xda\xff\xd8" * 3,
}


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("trailer", TRAILERS)
def test_jpeg_with_a_trailer_is_its_first_image(trailer: str, progressive: int) -> None:
    whole = encoded(".jpg", SCENE, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    assert jpeg_info(whole) == (len(whole), 320, 240)
    assert mean_difference(decode_image(whole + TRAILERS[trailer]), SCENE) < 4
    with pytest.raises(ImageError):
        decode_image(whole[:-100] + TRAILERS[trailer])


def end_early(whole: bytes) -> bytes:
    return whole[: len(whole) // 2] + whole[-2:]


def with_zeros(whole: bytes) -> bytes:
    third = len(whole) // 3
    return whole[:third] + bytes(third) + whole[2 * third :]


def with_changes(whole: bytes) -> bytes:
    changed = bytearray(whole)
    for place in range(len(whole) // 4, len(whole) - 10, len(whole) // 20):
        changed[place] ^= 0x41
    return bytes(changed)


@pytest.mark.parametrize("damaged", [end_early, with_zeros, with_changes])
def test_jpeg_damaged_before_its_end_marker_is_refused(
    tmp_path: Path, damaged: Callable[[bytes], bytes]
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)
    path = picture(tmp_path / "noise.jpg", noise)
    assert read_image(path).shape == noise.shape
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(ImageError, match=r"noise\.jpg: damaged JPEG"):
        read_image(path)


@pytest.mark.parametrize("size", [(320, 240), (1, 1), (7, 33)])
@pytest.mark.parametrize("sampling", ["411", "420", "422", "440", "444"])
@pytest.mark.parametrize(("progressive", "interval"), [(0, 0), (0, 1), (1, 0), (1, 5)])
def test_intact_jpeg_of_any_kind_is_read(
    tmp_path: Path, size: tuple[int, int], sampling: str, *, progressive: int, interval: int
) -> None:
    image = cv2.resize(SCENE, size)
    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
    options = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor, cv2.IMWRITE_JPEG_RST_INTERVAL, interval)
    path = tmp_path / "face.jpg"
    path.write_bytes(encoded(".jpg", image, *options, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive))
    assert mean_difference(read_image(path), image) < 4


def test_jpeg_that_ffmpeg_does_not_support_is_read(tmp_path: Path) -> None:
    path = tmp_path / "face.jpg"
    Pillow.fromarray(SCENE).convert("CMYK").save(path)
    assert read_image(path).shape == SCENE.shape


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_truncated_gif_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "face.gif"
    Pillow.fromarray(SCENE).save(path)
    assert mean_difference(read_image(path), SCENE) < 4
    with pytest.raises(ImageError, match="GIF"):
        read_image(cut(path, share))


def test_jpeg_with_too_few_bytes_for_its_size_is_refused() -> None:
    whole = bytearray(encoded(".jpg", SCENE))
    height = whole.index(b"\xff\xc0") + 5
    whole[height : height + 2] = (60000).to_bytes(2, "big")
    with pytest.raises(ImageError, match="320x60000"):
        decode_image(bytes(whole))


@pytest.mark.parametrize("progressive", [0, 1])
def test_uniform_jpeg_is_decoded(progressive: int) -> None:
    options = (cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
    uniform = encoded(".jpg", np.full((2000, 3000), 128, np.uint8), *options)
    assert decode_image(uniform).shape == (2000, 3000, 3)


@pytest.mark.parametrize("name", ["face.ppm", "face.jp2", "face.tga", "face.dng", "gif.mp4"])
def test_single_image_of_another_format_is_no_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    formats = {".mp4": "GIF", ".dng": "TIFF", ".jp2": "JPEG2000"}
    Pillow.fromarray(SCENE).save(path, formats.get(path.suffix))
    source = create_source(str(path))
    assert source.kind is SourceKind.IMAGE
    (captured,) = all_from(source)
    assert mean_difference(captured.bgr, SCENE) < 8
    assert captured.file == name


def test_tiff_with_a_thumbnail_is_one_image() -> None:
    def page(kind: int, following: int) -> bytes:
        return struct.pack("<HHHIII", 1, 254, 4, 1, kind, following)

    assert count_images(b"II*\0" + struct.pack("<I", 8) + page(0, 26) + page(1, 0)) == 1
    assert count_images(b"II*\0" + struct.pack("<I", 8) + page(0, 26) + page(2, 0)) == 2
    assert count_images(b"II*\0" + struct.pack("<I", 8) + page(0, 8)) == MAX_PAGES


@needs_ffmpeg
def test_motion_photo_is_one_frame(tmp_path: Path) -> None:
    path = picture(tmp_path / "motion.jpg")
    path.write_bytes(path.read_bytes() + video(tmp_path / "clip.mp4").read_bytes())
    assert len(all_from(create_source(str(path)))) == 1


def test_jpeg_with_a_thumbnail_is_its_main_image() -> None:
    thumbnail = b"\xff\xe1" + (len(OTHER) + 2).to_bytes(2, "big") + OTHER
    whole = encoded(".jpg", SCENE)
    assert decode_image(whole[:2] + thumbnail + whole[2:]).shape == SCENE.shape
    with pytest.raises(ImageError):
        decode_image(whole[:2] + thumbnail + whole[2:-200])


def test_pam_keeps_red_and_blue(tmp_path: Path) -> None:
    height, width, _ = COLOURED.shape
    header = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"
    path = tmp_path / "image.pam"
    path.write_bytes(header.encode() + COLOURED[..., ::-1].tobytes())
    np.testing.assert_array_equal(read_image(path), COLOURED)


def test_jpeg_is_turned_as_exif_asks() -> None:
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01"
    exif = b"Exif\x00\x00" + tiff + b"\x00\x06\x00\x00" + bytes(4)  # 6: turn it clockwise
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    lying = cv2.rotate(SCENE, cv2.ROTATE_90_COUNTERCLOCKWISE)
    whole = encoded(".jpg", lying)
    assert mean_difference(decode_image(whole[:2] + segment + whole[2:]), SCENE) < 4


def turned_avif() -> bytes:
    """The scene, turned a quarter, with the metadata that turns it back."""
    pillow = pytest.importorskip("PIL.Image")
    if not pytest.importorskip("PIL.features").check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    lying = cv2.rotate(SCENE, cv2.ROTATE_90_COUNTERCLOCKWISE)
    content = io.BytesIO()
    exif = pillow.Exif()
    exif[0x112] = 6  # which Pillow writes as `irot`
    pillow.fromarray(lying[..., ::-1]).save(content, "AVIF", exif=exif)
    return content.getvalue()


def test_avif_is_turned_as_its_rotation_asks() -> None:
    assert mean_difference(decode_image(turned_avif()), SCENE) < 4


def test_avif_of_tiles_is_decoded_by_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.capture.image_decoding._decode_with_ffmpeg", lambda _: GREY)
    monkeypatch.setattr("cv2.imdecode", lambda *_: SCENE)
    whole = bytes(4) + b"ftypavif" + bytes(40)
    assert np.array_equal(decode_image(whole + b"av01" + bytes(40) + b"mdat"), GREY)
    assert np.array_equal(decode_image(whole + b"grid" + bytes(40) + b"mdat"), SCENE)


def test_avif_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.capture.image_decoding.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="too large"):
        decode_image(turned_avif())


def test_larger_jpeg_is_reduced_while_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.capture.image_decoding.MAX_IMAGE_PIXELS", 320 * 240 // 10)
    assert decode_image(encoded(".jpg", SCENE)).shape == (60, 80, 3)
    monkeypatch.setattr("edge_daemon.capture.image_decoding.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="too large"):
        decode_image(encoded(".jpg", SCENE))


def test_reduced_jpeg_states_its_reduction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path / "a.jpg")
    monkeypatch.setattr("edge_daemon.capture.image_decoding.MAX_IMAGE_PIXELS", 320 * 240 // 10)
    for source in (ImageFolder(tmp_path), ImageFile(path)):
        (captured,) = all_from(source)
        assert captured.bgr.shape == (60, 80, 3)
        assert captured.reduction == 4


@pytest.mark.parametrize("content", [b"", b"words", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_file_without_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"face\.jpg: "):
        read_image(path)
