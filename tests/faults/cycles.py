"""Run the daemon repeatedly in one process, and print the resources it holds after each run.

    python cycles.py COUNT STATE_DIR CLIP STREAM BROKER_PORT METRICS_PORT PREVIEW_PORT

Most runs are of the clip, and end with it. Every fifth watches the stream, publishes to the broker,
serves metrics and the preview, and ends by SIGTERM at its first event.
"""

import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

from edge_daemon._lib.logging import configure_logging
from edge_daemon.config.loading import load_settings
from edge_daemon.config.settings import Settings
from edge_daemon.daemon import run
from edge_daemon.output import OutputOptions

SETTLE_LIMIT_S: Final = 2.0

ENDING: Final = ("descriptors", "threads", "tasks")
"""Resources that a thread has until it ends."""


class EndAtEvent(logging.Handler):
    """Ends the run by a signal when an event is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "event":
            os.kill(os.getpid(), signal.SIGTERM)


def holdings() -> dict[str, int]:
    """System resources of this process."""
    gc.collect()
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "tasks": len(list(Path("/proc/self/task").iterdir())),
        "resident": int(Path("/proc/self/statm").read_text().split()[1])
        * os.sysconf("SC_PAGESIZE"),
    }


def main(count: str, state: str, clip: str, stream: str, *ports: str) -> None:
    broker, metrics, preview = ports
    configure_logging("info", EndAtEvent())
    common = {"state_dir": state, "events.appear_after": "0"}
    film = settings_of(common | {"source": clip, "sink": "jsonl"})
    live = settings_of(
        common
        | {"source": stream, "sink": "mqtt", "mqtt.host": "127.0.0.1", "mqtt.port": broker}
        | {"metrics.listen": f"127.0.0.1:{metrics}"}
        | {"preview.listen": f"127.0.0.1:{preview}"}
    )
    before: dict[str, int] = {}
    for number in range(int(count)):
        settings = live if number % 5 == 4 else film
        run(settings, reload=Settings, outputs=OutputOptions())
        before = settled_holdings(before)
        print(json.dumps(before), file=sys.stderr, flush=True)


def settled_holdings(before: dict[str, int]) -> dict[str, int]:
    """The resources once no thread more than before is left; the last ones end a little later."""
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while True:
        held = holdings()
        has_grown = any(held[what] > before.get(what, 0) for what in ENDING)
        if not has_grown or not before or time.monotonic() > deadline:
            return held
        time.sleep(0.02)


def settings_of(values: dict[str, str]) -> Settings:
    return load_settings(flags={tuple(key.split(".")): values[key] for key in values})


if __name__ == "__main__":
    main(*sys.argv[1:])
