"""Makes the screenshots of the preview in docs/, with drawn people.

    python tests/screenshots.py --detector yunet --detector-model FILE

The arguments are passed to the daemon; without any, it uses its default detector. It takes about
two minutes, until the timelines are full.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from preview.browsing import Browser, browser
from preview.portraits import write_people
from running import free_port, running

DESKTOP, PHONE = (1360, 1330), (390, 844)

DOCS = Path(__file__).parents[1] / "docs"

CLIP = "people.mp4"
CLIP_SECONDS = 100

WARM_UP_S = 62
"""Time until the timelines are full."""


def main(arguments: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_people(Path(CLIP), CLIP_SECONDS)
        address = f"127.0.0.1:{free_port()}"
        own = ("--preview", address, "--source", CLIP, "--set", "device_id=porch")
        with running(Path(folder), *own, *arguments), browser(Path(folder)) as page:
            time.sleep(WARM_UP_S)
            shoot(page, f"http://{address}/")


def shoot(page: Browser, url: str) -> None:
    page.wears(DESKTOP)
    page.open(url)
    settle(page)
    page.screenshot(DOCS / "preview-light.png")
    page.wears(DESKTOP, dark=True)
    page.press("c")
    settle(page)
    page.screenshot(DOCS / "preview-dark.png")
    page.wears(PHONE, scale=2)
    page.press("c")
    settle(page)
    page.screenshot(DOCS / "preview-phone.png")


def settle(page: Browser) -> None:
    """Wait for figures, and for buttons to change."""
    page.wait_for("document.querySelectorAll('.box').length === 2")
    time.sleep(3)


if __name__ == "__main__":
    main(sys.argv[1:])
