"""The page of devices, in a real browser, with a real broker and a second daemon."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from commands.watch.test_command import publish
from payloads import encoded, health, state
from preview.browsing import DESKTOP, PHONE, Browser, browser
from preview.crowd import playing
from preview.serving import Served, serving
from publishing.broker import Mosquitto
from running import broker_at, eventually, running

from edge_daemon.schema import SourceState


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("downloads")) as made:
        yield made


@pytest.fixture
def served(broker: Mosquitto) -> Iterator[Served]:
    with serving(Served(broker_port=broker.port)) as served, playing(served):
        yield served


@pytest.fixture
def page(chromium: Browser, served: Served) -> Iterator[Browser]:
    """The page of devices, reached from the preview."""
    open_page(chromium, served)
    yield chromium
    assert chromium.complaints() == []


def open_page(chromium: Browser, served: Served) -> None:
    chromium.wears()
    chromium.open(served.url)
    chromium.wait_for_state("running")  # its name moves the link
    chromium.one("#devices-link").click()
    chromium.wait_for("location.pathname === '/devices.html'")
    chromium.wait_for_state("running")


def put(
    broker: Mosquitto,
    name: str,
    availability: bytes = b"online",
    source: SourceState = SourceState.RUNNING,
    age_s: float = 0.0,
) -> None:
    """Publish a device's retained messages, made some time ago."""
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    topic = f"edge-daemon/{name}"
    paused = source is SourceState.PAUSED
    publish(broker.port, f"{topic}/health", encoded(health(source, at=at)), retain=True)
    publish(broker.port, f"{topic}/state", encoded(state(at=at, paused=paused)), retain=True)
    publish(broker.port, f"{topic}/availability", availability, retain=True)


CARDS = """Object.fromEntries([...document.querySelectorAll('.device')].map((card) =>
  [card.querySelector('.title').textContent, card.innerText]))"""


def cards(page: Browser, count: int) -> dict[str, str]:
    """The words of each card, by the device's name, once there are so many."""
    page.wait_for("document.querySelectorAll('.device').length === arguments[0]", count)
    return dict(page.run(CARDS))


def are_in_cards(page: Browser, patterns: dict[str, tuple[str, ...]]) -> bool:
    """Whether the cards are those of these devices, with these words."""
    texts = dict(page.run(CARDS))
    return texts.keys() == patterns.keys() and all(
        re.search(pattern, texts[name]) for name in patterns for pattern in patterns[name]
    )


EXPECTED_CARDS = {
    "porch": (
        r"porch\s+this device\s+Online\s+happy\s+1 in sight",
        r"Latency p95\s+71 ms\s+Temperature\s+61 °C",
    ),
    "hall": (r"hall\s+Offline\s+Faces are unknown\s+Last message 2 h",),
    "gate": (r"gate\s+Out of date\s+Faces are unknown\s+Last message 1 h",),
    "yard": (r"yard\s+No camera\s+Faces are unknown",),
}


def test_devices_page_lists_states_and_figures(
    chromium: Browser, served: Served, broker: Mosquitto
) -> None:
    put(broker, "porch")
    put(broker, "hall", b"offline", age_s=7200)
    put(broker, "gate", age_s=3600)
    put(broker, "yard", source=SourceState.LOST)
    open_page(chromium, served)
    # The retained messages of a device arrive one after another.
    eventually(lambda: are_in_cards(chromium, EXPECTED_CARDS))
    assert chromium.text("#summary") == "4 in all, 1 online, 1 out of date, 1 offline"
    assert not chromium.one("#explanation").is_displayed()
    assert chromium.complaints() == []


def test_devices_page_follows_a_second_daemon(
    page: Browser, broker: Mosquitto, drawn_clip: Path, tmp_path: Path
) -> None:
    words = ("--source", drawn_clip, "--set", "device_id=hall", "--set", "capture.loop=true")
    with running(tmp_path, *words, *broker_at(broker.port), "--detector", "haar"):
        page.wait_for("document.querySelector('.device')?.dataset.status === 'running'")
        page.wait_for("document.querySelector('.device .mood span').textContent !== ''")
        page.wait_for("document.querySelector('.device dl').textContent.includes('Version')")
    page.wait_for("document.querySelector('.device').dataset.status === 'offline'")
    assert "Faces are unknown" in cards(page, 1)["hall"]


def test_devices_page_reports_a_lost_broker(page: Browser, broker: Mosquitto) -> None:
    put(broker, "hall")
    cards(page, 1)
    broker.stop()
    page.wait_for_state("away")
    assert page.text("#state") == "No broker"
    assert "No connection to the broker" in page.text("#explanation")
    assert cards(page, 1).keys() == {"hall"}
    broker.start()
    page.wait_for_state("running")
    assert not page.one("#explanation").is_displayed()


def test_devices_page_without_broker_explains_that(chromium: Browser) -> None:
    with serving(Served()) as served:
        chromium.open(f"{served.url}devices.html")
        chromium.wait_for("document.getElementById('state').textContent === 'No broker'")
        assert "mqtt.host" in chromium.text("#explanation")
        assert chromium.text("#no-devices") == "Without a broker, devices are unknown."
    chromium.wait_for("document.getElementById('state').textContent === 'No connection'")
    chromium.complaints()  # the failed requests


def test_devices_page_alone_explains_access_rights(page: Browser, broker: Mosquitto) -> None:
    put(broker, "porch")
    page.wait_for("document.getElementById('explanation').textContent.includes('access rights')")


def test_devices_page_full_table_is_reported(page: Browser, broker: Mosquitto) -> None:
    for number in range(110):
        publish(broker.port, f"edge-daemon/fake-{number:03}/availability", b"online")
    page.wait_for("document.getElementById('explanation').textContent.includes('More devices')")
    assert len(cards(page, 99)) == 99


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("language", ["en", "de"])
def test_devices_page_fits_the_width(
    page: Browser, broker: Mosquitto, size: tuple[int, int], language: str
) -> None:
    page.run("localStorage.setItem('language', arguments[0])", language)
    try:
        page.wears(size)
        page.driver.refresh()
        put(broker, "porch")
        put(broker, "x" * 100, b"offline")
        cards(page, 2)
        assert page.run("document.documentElement.lang") == language
        assert page.text("h1") == {"en": "Devices", "de": "Geräte"}[language]
        assert page.run("document.documentElement.scrollWidth") <= size[0]
    finally:
        page.run("localStorage.removeItem('language')")
