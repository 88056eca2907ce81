"""What tests of health share."""

import pytest
from conftest import FakeClock

from edge_daemon._lib.resources import bundled_models
from edge_daemon.capture.status import SourceStatus
from edge_daemon.inference.bundle import Bundle, read_bundle


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(bundled_models())


@pytest.fixture
def source(clock: FakeClock) -> SourceStatus:
    return SourceStatus("camera", clock)
