"""The daemon for hours, under faults at random: what is lost, what grows, how it recovers.

In the folder tests/:

    python -m soak --minutes 60 --seed 1
    python -m soak --minutes 60 --clips ~/clips --folder /tmp/soak --json

It needs mosquitto. A camera plays clips, or drawn faces; the daemon runs as its own process and is
started again as systemd would; a subscriber keeps every event. Three lanes of faults go on at the
same time: of broker and network, of the camera, and of the process and its disk. Run by root, the
state folder is on a small disk of its own, which can be full. Exit code 1 if an event was lost or
out of order, if the daemon ended by itself, did not recover, or grew.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from soak.camera import Mood
from soak.faults import Chance, lanes
from soak.film import film_of
from soak.report import Incident, Limits, Summary, summary
from soak.site import Site, built

RECOVERY_LIMIT: Final = 180.0
"""Seconds; other faults may come in between."""

DELIVERY_LIMIT: Final = 30.0
"""Seconds until the last messages of a stopped daemon arrive."""


class Soak:
    """Injects faults into a site, in all lanes concurrently, for a limited time."""

    def __init__(self, site: Site, seed: int, pause: float, longest: float) -> None:
        self.incidents: list[Incident] = []
        self._site = site
        self._seed = seed
        self._pause = pause
        self._longest = longest
        self._began = time.monotonic()
        self._ending = threading.Event()
        self._failures: list[BaseException] = []

    def run(self, seconds: float) -> None:
        threads = [
            threading.Thread(target=self._lane, args=(name, faults))
            for name, faults in lanes(self._site).items()
        ]
        for thread in threads:
            thread.start()
        self._ending.wait(seconds)
        self._ending.set()
        for thread in threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def recovers(self) -> bool:
        """Wait for new results, and for all events that are logged by now."""
        since, logged = datetime.now(UTC), self._site.device.logged.keys()
        listener = self._site.listener
        deadline = time.monotonic() + RECOVERY_LIMIT
        while time.monotonic() < deadline:
            if listener.connected and listener.newest > since and logged <= listener.events.keys():
                return True
            time.sleep(0.1)
        return False

    def wait_for_delivery(self) -> None:
        """Wait, for a limited time, until the listener has all events that are logged."""
        device, listener = self._site.device, self._site.listener
        deadline = time.monotonic() + DELIVERY_LIMIT
        while not device.logged.keys() <= listener.events.keys() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _lane(self, name: str, faults: list[Chance]) -> None:
        chance = random.Random(f"{self._seed} {name}")
        try:
            while not self._ending.wait(chance.expovariate(1 / self._pause)):
                (one,) = chance.choices(faults, [one.weight for one in faults])
                self._inflict(one, chance)
        except BaseException as failure:  # noqa: BLE001  # raised where the threads are joined
            self._failures.append(failure)
            self._ending.set()

    def _inflict(self, one: Chance, chance: random.Random) -> None:
        began = self.seconds
        with one.fault(self._site, chance):
            seconds = chance.uniform(one.shortest, one.longest)
            self._ending.wait(min(seconds, self._longest))
        ended = self.seconds
        recovered = self.seconds if self.recovers() else None
        self.incidents.append(Incident(one.name, began, ended, recovered))
        took = "never" if recovered is None else f"{recovered - ended:.1f} s"
        log(f"{began:7.1f} s: {one.name} for {ended - began:.1f} s, recovery {took}")


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def soaked(folder: Path, options: argparse.Namespace) -> Summary:
    """Run the soak once."""
    clips = sorted(options.clips.glob("*.mp4")) if options.clips else []
    film = film_of(clips, random.Random(options.seed))
    with built(folder, film) as site:
        soak = Soak(site, options.seed, options.pause, options.longest)
        soak.recovers()  # the start counts as a recovery
        soak.run(60 * options.minutes)
        site.camera.mood = Mood.EMPTY
        time.sleep(2.0)  # all faces have left
        soak.recovers()
        site.device.retire()
        soak.wait_for_delivery()
        (folder / "daemon.log").write_text("\n".join(site.device.lines))
        return summary(soak.seconds, site.device, site.listener, soak.incidents)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1, help="of the order and length of faults")
    parser.add_argument("--pause", type=float, default=15.0, help="mean seconds between two faults")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds of a fault, at most")
    parser.add_argument("--clips", type=Path, help="folder of *.mp4 to play; without, drawn faces")
    parser.add_argument("--folder", type=Path, help="where logs and files are kept; else nowhere")
    parser.add_argument("--memory-growth", type=float, default=25.0, help="percent, at most")
    parser.add_argument("--more-files", type=int, default=20, help="open files, at most")
    parser.add_argument("--json", action="store_true", help="the summary as one object")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    with ExitStack() as folders:
        if options.folder is None:
            folder = Path(folders.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = options.folder.absolute()
            folder.mkdir(parents=True, exist_ok=True)
        result = soaked(folder, options)
    problems = list(result.problems(Limits(options.memory_growth, options.more_files)))
    if options.json:
        print(json.dumps(result.as_json() | {"problems": problems}, indent=2))
    else:
        print("\n".join([*result.text(), "", *problems]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
