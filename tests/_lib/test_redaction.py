import pytest

from edge_daemon._lib.text import masked, without_password
from edge_daemon.capture import source_from
from edge_daemon.errors import SourceError


@pytest.mark.parametrize(
    ("url", "shown"),
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
    ],
)
def test_passwords_are_masked_and_the_rest_stays(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_an_unknown_kind_of_address_is_refused_without_its_password() -> None:
    with pytest.raises(SourceError, match="unsupported scheme") as caught:
        source_from("rtmp://ann:secret@cam/1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no such file: rtsp://ann:secret@cam/1; see", "no such file: rtsp://***@cam/1; see"),
        ("['http://a:b@c', 'x']", "['http://***@c', 'x']"),
        ("two  words\n", "two  words\n"),
        ("x" * 1_000_000, "x" * 1_000_000),
    ],
    ids=["in a sentence", "in a list", "none", "without end"],
)
def test_passwords_in_a_text_are_masked_and_the_rest_stays(text: str, shown: str) -> None:
    assert masked(text) == shown
