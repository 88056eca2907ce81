"""Makes the pictures of the preview in docs/, of people who are drawn.

    python tests/screenshots.py --detector yunet --detector-model FILE

The words are the daemon's; without any, it finds faces as it does by itself. It takes a minute and
a half, as the timelines are to be full.
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

DESKTOP, PHONE = (1360, 985), (390, 844)

DOCS = Path(__file__).parents[1] / "docs"

CLIP = "people.mp4"
CLIP_SECONDS = 100

UNTIL_FULL = 62
"""Seconds until the timelines are."""


def main(words: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_people(Path(CLIP), CLIP_SECONDS)
        address = f"127.0.0.1:{free_port()}"
        ours = ("--preview", address, "--source", CLIP, "--set", "device_id=porch")
        with running(Path(folder), *ours, *words), browser(Path(folder)) as page:
            time.sleep(UNTIL_FULL)
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
    """Let figures come and buttons change."""
    page.wait_for("document.querySelectorAll('.box').length === 2")
    time.sleep(3)


if __name__ == "__main__":
    main(sys.argv[1:])
