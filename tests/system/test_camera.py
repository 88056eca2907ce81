"""The service in its sandbox, with the real picamera2 on libcamera's virtual camera."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from drawing import draw_scene
from publishing.broker import Mosquitto
from running import eventually
from system.box import Box, booted, camera_root
from system.service import (
    DEVICE,
    INSTALLATION_LIMIT,
    PASSWORD,
    ROOT,
    Service,
    copy_of_source,
    watched,
)

from edge_daemon.schema import FacesMessage

pytestmark = pytest.mark.timeout(3 * INSTALLATION_LIMIT)

SIZE = (1280, 720)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the camera shows."""
    folder = tmp_path_factory.mktemp("pictures")
    folder.chmod(0o755)  # the service is another user
    for number in range(10):
        scene = draw_scene((400 + 10 * number, 200, 300), size=SIZE)
        cv2.imwrite(str(folder / f"{number}.jpg"), scene)
    return folder


@pytest.fixture(scope="module")
def box(able: None, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    source = copy_of_source(tmp_path_factory.mktemp("source"))
    files = ROOT / "tests" / "box" / "picamera2"
    binds = ((source, "/opt/source"), (files, "/opt/box"), (pictures, "/opt/frames"))
    with booted(camera_root(), tmp_path_factory.mktemp("box"), *binds) as box:
        make_camera(box)
        yield box


def make_camera(box: Box) -> None:
    """Have every process see the camera, and every Python picamera2, as on a Raspberry Pi."""
    folder = "/usr/share/libcamera/pipeline/virtual"
    box.run("install", "-D", "--target-directory", folder, "/opt/box/virtual.yaml")
    libraries = "LD_PRELOAD=/usr/local/lib/fakedmaheap.so"
    box.run("systemctl", "set-environment", "LIBCAMERA_PIPELINES_MATCH_LIST=virtual", libraries)
    packages = box.output_of("sh", "-c", "echo /opt/venv/lib/python3*/site-packages")
    system_wide = box.output_of(
        "/usr/bin/python3", "-c", "import site; print(site.getsitepackages()[0])"
    )
    box.write(f"{system_wide}/picamera2.pth", f"{packages}\n")


def test_faces_before_the_camera_are_published(box: Box, broker: Mosquitto) -> None:
    box.write("/root/credentials", f"{DEVICE}\n{PASSWORD}\n")
    with watched(box, broker) as service:
        code, lines = service.install(
            *("--broker", f"127.0.0.1:{broker.port}", "--credentials", "/root/credentials"),
            *("--device-id", DEVICE, "--set", "capture.fps=10"),
        )
        text = "\n".join(lines)
        assert code == 0, text
        assert re.search(r"^ok +source: picamera: gives frames of 1280x720$", text, re.MULTILINE)
        service.wait_for_results()
        message = FacesMessage.model_validate_json(service.received.payloads(f"{DEVICE}/faces")[-1])
        assert (message.width, message.height) == SIZE
        (face,) = message.faces
        x, y, width, height = face.box
        assert 500 < x + width / 2 < 700  # where it is drawn
        assert 250 < y + height / 2 < 450
        check_that_it_lasts(service)


def check_that_it_lasts(service: Service) -> None:
    before = service.process
    service.received.wait_until(lambda: len(service.received.on(f"{DEVICE}/faces")) > 50)
    eventually(lambda: "source running" in service.property_of("StatusText"))
    assert service.process == before
