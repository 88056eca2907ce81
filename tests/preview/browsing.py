"""A real browser, Chromium, for the tests of the page."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running import PATIENCE
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root may not use
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)

DESKTOP, PHONE = (1440, 1000), (360, 740)


class Browser:
    """Chromium without a screen, and what tests ask of a page in it."""

    def __init__(self, downloads: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = program("chromium")
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        self.driver = webdriver.Chrome(options, Service(program("chromedriver")))
        self.wears()

    def wears(
        self, size: tuple[int, int] = DESKTOP, *, dark: bool = False, scale: float = 1
    ) -> None:
        """Have the looks of a desktop or, where it is narrow, of a phone."""
        phone = size[0] < 600
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": scale, "mobile": phone}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, url: str) -> None:
        """Go to a page; what stands on the console is then its own."""
        self.driver.get("about:blank")  # else the last page goes on asking a program that has ended
        self.complaints()
        self.driver.get(url)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a JavaScript expression."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def each(self, selector: str, script: str) -> list[Any]:
        """The value of an expression of each `element`, all of one moment."""
        every = "[...document.querySelectorAll(arguments[0])]"
        return list(self.run(f"{every}.map((element) => {script})", selector))

    def wait_for(self, script: str, *arguments: object) -> Any:
        """Wait until an expression is true."""
        return WebDriverWait(self.driver, PATIENCE, 0.05).until(
            lambda _: self.run(script, *arguments), message=script
        )

    def wait_for_state(self, state: str) -> None:
        self.wait_for("document.body.dataset.state === arguments[0]", state)

    def wait_until_named(self, selector: str) -> None:
        """Wait until all of these have a name: what was hidden gets its own a moment later."""
        replaced = [StaleElementReferenceException]
        WebDriverWait(self.driver, PATIENCE, ignored_exceptions=replaced).until(
            lambda _: all(one.accessible_name for one in self.all(selector)),
            message=f"one of these has no name: {selector}",
        )

    def press(self, key: str) -> None:
        self.one("body").send_keys(key)

    def pixels(self, selector: str) -> str:
        """All that a canvas shows."""
        script = "document.querySelector(arguments[0]).toDataURL()"
        return str(self.run(script, selector))

    def complaints(self) -> list[str]:
        """What stands on the console since the last look, save advice on how to read canvases."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["source"] != "rendering"]

    def screenshot(self, file: Path) -> None:
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        file.write_bytes(base64.b64decode(shot["data"]))


def program(name: str) -> str:
    """Where a program is; the test is skipped where it is absent."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (on Debian: apt install chromium chromium-driver)")
    return found


@contextmanager
def browser(downloads: Path) -> Iterator[Browser]:
    made = Browser(downloads)
    try:
        yield made
    finally:
        made.driver.quit()
