import pytest

from edge_daemon._lib.text import masked, without_password
from edge_daemon.capture import create_source
from edge_daemon.errors import SourceError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtsp://ann:secret@cam:554/1", "rtsp://***@cam:554/1"),
        ("rtsp://ann:p@ss@cam/1", "rtsp://***@cam/1"),
        ("http://cam/video?user=ann&pwd=secret", "http://cam/video?***"),
        ("rtsp://cam/user=ann_password=secret_channel=1", "rtsp://cam/user=***"),
        ("rtsp://cam:554/user=ann&password=secret?x=1", "rtsp://cam:554/user=***?***"),
        ("rtsp://ann:hunter2?@cam/1", "rtsp://***@cam"),
        ("rtsp://ann:hunter2#3@cam:554/1", "rtsp://***@cam:554"),
        ("rtsp://ann:hun/ter2@cam/1", "rtsp://***@cam"),
        ("rtsp://ann:12/ter2@cam/1", "rtsp://***"),
        ("rtsp://ann:hun@ter/2@cam/1", "rtsp://***"),
        ("http://cam:80/image?password=hun@ter2", "http://***"),
        ("http://cam/image?password=hun@ter2", "http://cam/***"),
        ("rtsp://[fe80::1]:554/1", "rtsp://[fe80::1]:554/1"),
        ("rtsp://cam/1", "rtsp://cam/1"),
        ("clips/a@b?.mp4", "clips/a@b?.mp4"),
        ("ann:secret@cam/1", "***@cam/1"),
        ("rtsp//ann:secret@cam/1", "***@cam/1"),
        ("rtsp/ann:secret@cam/1", "***@cam/1"),
        ("//ann:secret@cam/1", "***@cam/1"),
        ("clips/10:30@b.mp4", "clips/10:30@b.mp4"),
        ("ann@cam:1", "ann@cam:1"),
    ],
)
def test_url_password_is_masked_and_the_rest_unchanged(url: str, expected: str) -> None:
    assert without_password(url) == expected


def test_url_unknown_scheme_error_contains_no_password() -> None:
    with pytest.raises(SourceError, match="unsupported scheme") as caught:
        create_source("rtmp://ann:secret@cam/1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no such file: rtsp://ann:secret@cam/1; see", "no such file: rtsp://***@cam/1; see"),
        ("['http://a:b@c', 'x']", "['http://***@c', 'x']"),
        ("two  words\n", "two  words\n"),
        ("x" * 1_000_000, "x" * 1_000_000),
    ],
    ids=["in a sentence", "in a list", "none", "without end"],
)
def test_text_passwords_are_masked_and_the_rest_unchanged(text: str, expected: str) -> None:
    assert masked(text) == expected
