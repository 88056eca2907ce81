import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from capture.media import SCENES, needs_ffmpeg, video
from capture.rtsp import rtsp_camera

from edge_daemon.capture import create_source
from edge_daemon.capture.base import CapturedFrame, SupportsSkip
from edge_daemon.capture.network import NETWORK_TIMEOUT_S
from edge_daemon.capture.streams import NetworkStream
from edge_daemon.errors import SourceError, SourceLost

H264 = ("-c:v", "libx264", "-g", 5, "-bf", 0, "-pix_fmt", "yuv420p")
INTERLACED = (*H264, "-x264-params", "tff=1", "-flags", "+ildct+ilme")


def closest(picture: CapturedFrame) -> float:
    """Mean difference of the grey values from the scene that is most alike."""
    return min(float(np.abs(picture.bgr.astype(int) - scene).mean()) for scene in SCENES)


def reason(url: str) -> str:
    """Why it cannot be opened."""
    with pytest.raises(SourceLost) as loss:
        create_source(url).open()
    return str(loss.value)


@needs_ffmpeg
@pytest.mark.parametrize("options", [H264, INTERLACED], ids=["progressive", "interlaced"])
def test_rtsp_stream_gives_the_frames_that_are_sent(
    tmp_path: Path, options: tuple[object, ...]
) -> None:
    with rtsp_camera(video(tmp_path / "clip.mp4", *options)) as camera:
        source = create_source(camera.url.replace("rtsp", "RTSP"))
        assert isinstance(source, NetworkStream)
        assert source.is_live
        reader = source.open()
        assert isinstance(reader, SupportsSkip)
        reader.skip()
        pictures = [reader.read() for _ in range(5)]
        reader.close()
        assert ["TCP" in transport for transport in camera.transports] == [True]
    assert max(map(closest, pictures)) < 8
    assert {picture.position_s for picture in pictures} == {None}


@needs_ffmpeg
def test_rtsp_camera_without_tcp_is_read_over_udp(tmp_path: Path) -> None:
    with rtsp_camera(video(tmp_path / "clip.mp4", *H264), with_tcp=False) as camera:
        reader = create_source(camera.url).open()
        assert closest(reader.read()) < 8
        reader.close()
        assert ["TCP" in transport for transport in camera.transports] == [True, False]


@needs_ffmpeg
def test_rtsp_password_with_special_characters_is_accepted(tmp_path: Path) -> None:
    with rtsp_camera(video(tmp_path / "clip.mp4", *H264), with_login=True) as camera:
        reader = create_source(camera.url.replace("//", "//ann:p%40ss%2Fw%3Frd@")).open()
        assert closest(reader.read()) < 8
        reader.close()
        assert "401" in reason(camera.url)
        assert "401" in reason(camera.url.replace("//", "//ann:wrong@"))


def test_stream_that_is_refused_reports_it_without_the_password() -> None:
    text = reason("rtsp://me:secret@127.0.0.1:9/1")
    assert text.startswith("rtsp://***@127.0.0.1:9/1: connection refused")
    assert "secret" not in text


def test_stream_of_an_unknown_host_reports_it() -> None:
    assert "unknown host nowhere.invalid" in reason("rtsp://nowhere.invalid/1")


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_name_server_that_never_answers_is_a_loss(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    released = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: released.wait(10))
    monkeypatch.setattr("edge_daemon.capture.network.NETWORK_TIMEOUT_S", 0.1)
    began = time.monotonic()
    assert "unknown host cam.invalid" in reason(f"{scheme}://cam.invalid/1")
    assert time.monotonic() - began < 5
    released.set()


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_stream_that_never_answers_reports_it(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    for module in ("network", "streams"):
        monkeypatch.setattr(f"edge_daemon.capture.{module}.NETWORK_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "no answer" in reason(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/1")


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://me:hunter2?@cam/1",
        "rtsp://me:hunter2#@cam/1",
        "rtsp://me:hunter2/@cam/1",
        "rtsp://me:2/hunter2@cam/1",
        "rtsp://me:p@hunter2/@cam/1",
        "http://me:hunter2/@cam:80/1",
        "http://",
    ],
)
def test_address_with_unencoded_characters_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match="percent-encode") as refusal:
        create_source(url)
    assert "hunter2" not in str(refusal.value)
    assert not isinstance(refusal.value, SourceLost)


def test_address_with_an_at_in_its_query_is_accepted() -> None:
    assert create_source("http://cam:80/image?user=ann@home").name == "http://***"


def test_stream_that_opens_slowly_is_lost_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/"
        begun = time.monotonic()
        with pytest.raises(SourceLost, match=r"not open within 0\.5 s"):
            create_source(url, open_timeout_s=0.5).open()
        assert time.monotonic() - begun < 0.9 * NETWORK_TIMEOUT_S
