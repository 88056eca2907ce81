import json
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_daemon._lib.logging import KeyValueFormatter, configure_logging


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(), logging.getLogger("edge_daemon")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def formatted(message: str = "it happened", **fields: object) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", **fields})
    return KeyValueFormatter("%(levelname)s: %(message)s").format(record)


def test_fields_follow_the_message() -> None:
    line = formatted(source="a.mp4", seconds=1.5, threads=["capture"])
    assert line == "INFO: it happened source=a.mp4 seconds=1.5 threads=['capture']"


def test_message_without_fields_is_unchanged() -> None:
    assert formatted() == "INFO: it happened"


@pytest.mark.parametrize("value", ["two words", 'a"b', "a=b", "a\nb", "a\\b c", "\u2028", "\x7f"])
def test_ambiguous_value_is_quoted_and_reads_back(value: str) -> None:
    quoted = formatted(error=value).removeprefix("INFO: it happened error=")
    assert quoted.startswith('"')
    assert json.loads(quoted) == value


@given(st.text(), st.text())
def test_any_fields_give_one_line(first: str, second: str) -> None:
    assert len(formatted(first=first, second=second).splitlines()) == 1


def test_own_records_are_logged_from_the_level_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("warning")
    logger = logging.getLogger("edge_daemon.part")
    logger.info("too quiet")
    logger.warning("loud enough", extra={"where": "here"})
    out, err = capsys.readouterr()
    assert out == ""
    assert "too quiet" not in err
    (line,) = err.splitlines()
    assert line.endswith("WARNING edge_daemon.part: loud enough where=here")


def test_other_libraries_log_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug")
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("trouble")
    logging.getLogger("edge_daemon").debug("detail")
    err = capsys.readouterr().err
    assert "chatter" not in err
    assert "trouble" in err
    assert "detail" in err


def test_configuring_twice_does_not_write_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    configure_logging("info")
    logging.getLogger("edge_daemon").info("once")
    assert capsys.readouterr().err.count("once") == 1
    assert [type(handler) for handler in logging.getLogger().handlers] == [logging.StreamHandler]
    assert logging.getLogger().handlers[0].stream is sys.stderr
