from pathlib import Path

import pytest

from edge_daemon._lib.files import bundled_models
from edge_daemon.commands.check.checks import check_bundle, check_detector, check_runtime
from edge_daemon.config.settings import Settings
from edge_daemon.detection.download import YUNET
from edge_daemon.errors import BundleError, DetectorError
from edge_daemon.inference.bundle import read_bundle


def settings(**given: object) -> Settings:
    return Settings.model_validate(given)


def test_bundle_is_named_with_its_members() -> None:
    bundle = read_bundle(bundled_models())
    message = check_bundle(settings()).message
    assert message.startswith(f"{len(bundle.members)} models, checksums correct, ")
    assert bundle.bundle_id in message


def test_bundle_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        check_bundle(settings(inference={"bundle": tmp_path}))


def test_runtime_is_named_with_its_version() -> None:
    message = check_runtime(settings()).message
    assert message.startswith(("ai-edge-litert 2.", "tflite-runtime 2."))
    assert "ms a face" in message


def test_detector_is_named(tmp_path: Path, yunet_model: Path) -> None:
    assert check_detector(settings(state_dir=tmp_path)).message == "bundled"
    by_wish = settings(state_dir=tmp_path, detection={"detector": "yunet"})
    (tmp_path / YUNET.file).write_bytes(yunet_model.read_bytes())
    assert check_detector(by_wish).message == "yunet"


def test_fetched_detector_that_was_altered(tmp_path: Path, yunet_model: Path) -> None:
    (tmp_path / YUNET.file).write_bytes(yunet_model.read_bytes() + b"more")
    with pytest.raises(DetectorError, match="checksum"):
        check_detector(settings(state_dir=tmp_path, detection={"detector": "yunet"}))
