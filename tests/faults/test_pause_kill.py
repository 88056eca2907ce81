"""The daemon is killed as soon as it has acknowledged a pause: the next start is paused.

Three kills by default; TEST_PAUSE_KILLS sets another number.
"""

import os
import signal
from pathlib import Path

import pytest
from faults.device import EMPTY, device
from publishing.scripted import ScriptedBroker, publish
from running import camera

KILLS = int(os.environ.get("TEST_PAUSE_KILLS", "3"))


@pytest.mark.timeout(60 + 30 * KILLS)
def test_daemon_killed_at_acknowledgement_of_pause_stays_paused(tmp_path: Path) -> None:
    with camera(EMPTY) as stage:
        for number in range(KILLS):
            state = tmp_path / str(number)
            state.mkdir()
            with (
                ScriptedBroker(
                    after_subscribe=publish("edge-daemon/porch/set/paused", b"ON", packet_id=7)
                ) as broker,
                device(state, stage.url, broker.port) as watching,
            ):
                broker.wait_until(lambda: 7 in broker.acknowledged)
                watching.end(signal.SIGKILL)
                assert (state / "state" / "edge-daemon" / "paused-porch").exists()
                watching.start()
                watching.wait_for("still paused")
