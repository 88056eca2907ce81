from pathlib import Path

import pytest

from edge_daemon._lib.files import bundled_models
from edge_daemon.commands.check import check_bundle, check_detector, check_runtime
from edge_daemon.config.settings import Settings
from edge_daemon.detection.yunet import YUNET
from edge_daemon.errors import BundleError, DetectorError
from edge_daemon.inference.bundle import read_bundle


def settings(**values: object) -> Settings:
    return Settings.model_validate(values)


def test_bundle_message_has_file_count_and_member_count() -> None:
    bundle = read_bundle(bundled_models())
    message = check_bundle(settings()).message
    files = {member.file for member in bundle.members}
    assert message.startswith(f"{len(files)} model files, {len(bundle.members)} ensemble members, ")
    assert bundle.bundle_id in message


def test_bundle_absent_raises(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        check_bundle(settings(inference={"bundle": tmp_path}))


def test_runtime_message_has_name_and_version() -> None:
    message = check_runtime(settings()).message
    assert message.startswith(("ai-edge-litert 2.", "tflite-runtime 2."))
    assert "ms a face" in message


def test_detector_message_has_its_name(tmp_path: Path, yunet_model: Path) -> None:
    assert check_detector(settings(state_dir=tmp_path)).message == "bundled"
    yunet = settings(state_dir=tmp_path, detection={"detector": "yunet"})
    (tmp_path / YUNET.file).write_bytes(yunet_model.read_bytes())
    assert check_detector(yunet).message == "yunet"


def test_detector_altered_file_raises(tmp_path: Path, yunet_model: Path) -> None:
    (tmp_path / YUNET.file).write_bytes(yunet_model.read_bytes() + b"more")
    with pytest.raises(DetectorError, match="checksum"):
        check_detector(settings(state_dir=tmp_path, detection={"detector": "yunet"}))
