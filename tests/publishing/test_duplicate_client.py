import pytest

from edge_daemon.publishing.duplicate_client import Twins
from edge_daemon.publishing.mqtt import ConnectionEnded, HungUp, TakenOver

END, ABRUPT, TAKEN_OVER = ConnectionEnded("x"), HungUp("x"), TakenOver("x")

Ends = list[tuple[ConnectionEnded, float | None]]


@pytest.mark.parametrize(
    ("ends", "suspected"),
    [
        ([(TAKEN_OVER, 3600.0)], True),
        ([(ABRUPT, 1.0)] * 5, True),
        ([(ABRUPT, 1.0)] * 4, False),
        ([(ABRUPT, 30.0)] * 9, False),  # something else cuts idle connections off
        ([(ABRUPT, 1.0), (END, None)] * 9, False),  # a broker that is killed, and is down a while
        ([(END, 1.0)] * 9, False),  # it tells why
        ([(ABRUPT, 1.0)] * 5 + [(ABRUPT, 60.0)], True),  # a twin that makes pauses, too
        ([(ABRUPT, 1.0)] * 5 + [(ABRUPT, 600.0), (ABRUPT, 1.0)], False),
    ],
)
def test_twin_is_known_by_how_connections_end(ends: Ends, *, suspected: bool) -> None:
    twins = Twins()
    for end, lasted in ends:
        twins.note(end, lasted)
    assert twins.suspected == suspected
