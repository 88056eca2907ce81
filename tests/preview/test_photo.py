"""Photos that a user drops on the page, over real connections."""

import json
import socket
from base64 import b64decode
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from drawing import Image, draw_scene
from preview.serving import EVERYWHERE, Answer, Served, errors, serving
from running import eventually

from edge_daemon.preview.app import MAX_PHOTO_SIDE_PX, image_from

pytestmark = pytest.mark.usefixtures("_quick_uvicorn")

SCENE = draw_scene((60, 60, 120))


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Served()) as served:
        yield served


def rgba(image: Image) -> bytes:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGBA).tobytes()


def post(served: Served, pixels: bytes, width: object, height: object, token: str) -> Answer:
    path = f"/photo?width={width}&height={height}"
    return served.request(path, "POST", pixels, X_Preview_Token=token)


def test_photo_result_has_faces_probabilities_and_crops(served: Served) -> None:
    answer = post(served, rgba(SCENE), 320, 240, served.form_token())
    assert answer.status == 200
    result = json.loads(answer.body)
    (face,) = result["frame"]["faces"]
    x, y, width, height = face["box"]
    assert abs(x + width / 2 - 120) < 20
    assert abs(y + height / 2 - 120) < 30
    assert sum(face["raw"].values()) == pytest.approx(1, abs=0.001)
    assert len(b64decode(result["crops"][str(face["track_id"])])) == 48 * 48


def test_photo_without_faces_has_an_empty_result(served: Served) -> None:
    answer = post(served, bytes(4 * 320 * 240), 320, 240, served.form_token())
    assert json.loads(answer.body)["frame"]["faces"] == []


def test_photo_appears_in_no_other_message(served: Served) -> None:
    post(served, rgba(SCENE), 320, 240, served.form_token())
    assert json.loads(served.request("/minute.json").body)["frames"] == []


@pytest.mark.parametrize(
    ("pixels", "width", "height"),
    [
        (b"", 320, 240),
        (rgba(SCENE)[:-1], 320, 240),
        (rgba(SCENE), 240, 240),
        (b"", 0, 0),
        (b"1234", "x", 1),
        (b"1234", -1, -1),
        (b"1234", 10**9, 1),
        (bytes(4 * (MAX_PHOTO_SIDE_PX + 1)), MAX_PHOTO_SIDE_PX + 1, 1),
    ],
)
def test_invalid_photo_is_refused(
    served: Served, pixels: bytes, width: object, height: object
) -> None:
    assert post(served, pixels, width, height, served.form_token()).status == 400


def test_oversized_photo_is_refused(served: Served) -> None:
    pixels = bytes(4 * MAX_PHOTO_SIDE_PX**2 + 1)
    assert (
        post(served, pixels, MAX_PHOTO_SIDE_PX, MAX_PHOTO_SIDE_PX, served.form_token()).status
        == 400
    )


def test_photo_whose_upload_is_cancelled_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Served()) as served:
        head = "\r\n".join(
            (
                "POST /photo?width=320&height=240 HTTP/1.1",
                f"Host: 127.0.0.1:{served.port}",
                f"X-Preview-Token: {served.form_token()}",
                f"Content-Length: {4 * 320 * 240}",
                *("", ""),
            )
        )
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(head.encode() + bytes(1000))
            size = (bytes(4 * 320 * 240), 320, 240, served.form_token())
            eventually(lambda: post(served, *size).status == 429)
        eventually(lambda: post(served, *size).status == 200)
    assert errors(caplog.records) == []


def test_photo_without_form_token_is_refused(served: Served) -> None:
    assert post(served, rgba(SCENE), 320, 240, "wrong").status == 403


def test_remote_photo_without_login_is_refused() -> None:
    with serving(Served(EVERYWHERE)) as served:
        assert post(served, rgba(SCENE), 320, 240, "wrong").status == 401


def test_image_from_canvas_pixels_is_bgr() -> None:
    image = image_from(bytes([10, 20, 30, 255]), 1, 1)
    np.testing.assert_array_equal(image, [[[30, 20, 10]]])
