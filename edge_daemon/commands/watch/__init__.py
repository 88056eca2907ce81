"""`edge-daemon watch`: what the devices publish, as a live table or as lines of JSON.

All of it runs in the main thread: the network between two refreshes of the screen. With MQTT 5 the
broker keeps the session for a minute, so that a short loss of the network loses no event.
"""

import importlib.util
import select
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import BinaryIO, Final

from pydantic_core import to_json

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon._lib.terminal import discard_output, write_line
from edge_daemon._lib.text import printable
from edge_daemon._lib.validation import is_device_id
from edge_daemon.commands.watch.consumer import Consumer, ValidMessage
from edge_daemon.config.settings import Settings
from edge_daemon.errors import OutputClosed, SettingsError
from edge_daemon.publishing.broker import broker_from
from edge_daemon.publishing.messages import topic_filters
from edge_daemon.publishing.subscription import Subscription

SESSION_EXPIRY_S: Final = 60
"""Time for which the broker keeps the session while the connection is lost."""

REFRESH_INTERVAL: Final = 0.25
"""Seconds between two refreshes of the table."""

NOTICES_KEPT: Final = 20


def run(settings: Settings, devices: Sequence[str], *, as_json: bool) -> None:
    """Watch these devices, or all if none is named, until Ctrl-C or SIGTERM.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
        SettingsError: a name is none that a device can have, or there is no way to draw a table.
        BrokerError: the broker cannot be reached, or refuses.
    """
    for name in devices:
        if not is_device_id(name):
            raise SettingsError(
                f"DEVICE: must have only letters, digits, _ and - (got {name!r}); "
                "use the name in its topics"
            )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    watch = _print_lines if as_json else _show_table
    watch(settings, devices, SystemClock())


def _subscription(
    settings: Settings, devices: Sequence[str], notify: Callable[[str], None], clock: Clock
) -> Subscription:
    topics = topic_filters(settings.mqtt.base_topic, devices)
    broker = broker_from(settings.mqtt)
    return Subscription(
        broker, topics, notify, clock, role="watch", session_expiry_s=SESSION_EXPIRY_S
    )


def _print_lines(settings: Settings, devices: Sequence[str], clock: Clock) -> None:
    """Each message as a line of JSON, until the reader of the output has gone."""
    output = sys.stdout.buffer
    consumer = Consumer(settings.mqtt.base_topic, _print_notice)
    try:
        with closing(_subscription(settings, devices, _print_notice, clock)) as subscription:
            subscription.open()
            while True:
                for message in subscription.receive(REFRESH_INTERVAL):
                    accepted = consumer.take(message, clock.monotonic())
                    if accepted is not None:
                        write_line(output, _line(accepted))
                _raise_if_closed(output)
    except OutputClosed:
        discard_output()
    finally:
        if summary := consumer.summary():
            _print_notice(summary)


def _line(accepted: ValidMessage) -> bytes:
    return to_json(
        {
            "topic": accepted.topic,
            "device": accepted.device,
            "kind": accepted.kind,
            "retained": accepted.retained,
            "payload": accepted.content,
        }
    )


def _raise_if_closed(output: BinaryIO) -> None:
    """Detect a closed output also while there is nothing to write."""
    poll = select.poll()
    poll.register(output, 0)  # errors are always reported
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        raise OutputClosed("the reader of the output has closed it")


def _print_notice(line: str) -> None:
    print(f"edge-daemon: {printable(line)}", file=sys.stderr, flush=True)


def _show_table(settings: Settings, devices: Sequence[str], clock: Clock) -> None:
    if importlib.util.find_spec("rich") is None:
        raise SettingsError(
            "watch: rich is not installed; pip install 'edge-daemon[watch]', or use --json"
        )
    from edge_daemon.commands.watch.table import Notice, View, full_screen

    notices: deque[Notice] = deque(maxlen=NOTICES_KEPT)

    def note(line: str) -> None:
        notices.append(Notice(clock.now(), line))

    consumer = Consumer(settings.mqtt.base_topic, note)
    with closing(_subscription(settings, devices, note, clock)) as subscription:
        subscription.open()
        with full_screen() as show:
            while True:
                show(
                    View(
                        title=f"{settings.mqtt.base_topic} at {settings.mqtt.host}",
                        problem=subscription.problem,
                        devices=sorted(consumer.devices.values(), key=lambda device: device.name),
                        events=tuple(consumer.events),
                        totals=consumer.totals,
                        notices=tuple(notices),
                        at=clock.now(),
                        now=clock.monotonic(),
                    )
                )
                for message in subscription.receive(REFRESH_INTERVAL):
                    consumer.take(message, clock.monotonic())
