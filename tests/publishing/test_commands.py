import pytest
from publishing.fixtures import Told

from edge_daemon.publishing.commands import Commands, on_off, switch
from edge_daemon.publishing.mqtt import Received


@pytest.mark.parametrize(
    ("payload", "meaning"),
    [
        (b"ON", True),
        (b"OFF", False),
        (b"on", None),
        (b"ON\n", None),
        (b"", None),
        (b"1", None),
        (b"\xff\x00", None),
        (b"ON" * 30_000, None),
    ],
)
def test_only_on_and_off_have_a_meaning(payload: bytes, *, meaning: bool | None) -> None:
    assert on_off(payload) is meaning


def test_switch_turns_and_tells_of_nonsense_once(told: Told) -> None:
    positions: list[bool] = []
    handle = switch("set/paused", positions.append)
    for payload in (b"ON", b"x" * 100_000, b"\xff", b"OFF"):
        handle(payload)
    assert positions == [True, False]
    (record,) = told.records
    assert len(str(vars(record)["command"])) < 60


def test_commands_reach_their_handlers_and_no_other() -> None:
    heard: list[bytes] = []
    commands = Commands({"a": heard.append, "b": lambda _: pytest.fail("not meant")})
    assert commands.topics == ["a", "b"]
    commands.take(Received("a", b"1", retained=False))
    commands.take(Received("c", b"2", retained=False))
    assert heard == [b"1"]


def test_retained_commands_are_ignored_and_told_once(told: Told) -> None:
    commands = Commands({"a": lambda _: pytest.fail("an old command")})
    for _ in range(3):
        commands.take(Received("a", b"ON", retained=True))
    (record,) = told.records
    assert vars(record)["topic"] == "a"
