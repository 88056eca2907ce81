"""What tests of health share."""

import pytest
from conftest import FakeClock

from edge_daemon.capture.status import SourceStatus
from edge_daemon.inference.bundle import Bundle, read_bundle
from edge_daemon.shipped import bundled_models


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(bundled_models())


@pytest.fixture
def source(clock: FakeClock) -> SourceStatus:
    return SourceStatus("camera", clock)
