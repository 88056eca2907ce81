"""The page with many faces: labels, cards, session, zones, mirror and photos."""

import itertools
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders import event
from drawing import draw_scene
from preview.browsing import DESKTOP, PHONE, Browser, browser
from preview.crowd import Player, playing
from preview.serving import Served, serving

from edge_daemon.records import FACE_LABELS, EventKind


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("downloads")) as made:
        yield made


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Served()) as served:
        yield served


@pytest.fixture
def player(served: Served) -> Iterator[Player]:
    with playing(served) as player:
        yield player


@pytest.fixture
def page(chromium: Browser, served: Served, player: Player) -> Iterator[Browser]:
    """The page with six faces."""
    chromium.wears()
    chromium.open(served.url)
    chromium.wait_for("document.querySelectorAll('.card').length === 6")
    yield chromium
    assert chromium.complaints() == []


TABLET = (820, 1180)

RECTS = """[...document.querySelectorAll(arguments[0])].map((element) => {
  const {left, top, right, bottom} = element.getBoundingClientRect();
  return [left, top, right, bottom];
})"""


def overlap(one: list[float], two: list[float]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


@pytest.mark.parametrize(
    ("size", "raw"),
    [(DESKTOP, False), (PHONE, False), (PHONE, True), (TABLET, False)],
    ids=["desktop", "phone", "phone-raw", "tablet"],
)
def test_labels_cover_neither_faces_nor_each_other(
    page: Browser, size: tuple[int, int], *, raw: bool
) -> None:
    page.wears(size)
    if raw:
        page.press("r")
    # The next frame shows the labels again, in places for the new size.
    page.driver.execute_script(
        "document.querySelectorAll('#boxes .label').forEach((label) => { label.hidden = true; })"
    )
    page.wait_for("document.querySelectorAll('#boxes .label:not([hidden])').length === 6")
    boxes, labels = page.run(
        f"[{RECTS}, {RECTS.replace('arguments[0]', 'arguments[1]')}]",
        ".box",
        "#boxes .label:not([hidden])",
    )
    (screen,) = page.run(RECTS, "#screen")
    assert not any(itertools.starmap(overlap, itertools.combinations(labels, 2)))
    assert not any(itertools.starmap(overlap, itertools.product(labels, boxes)))
    assert all(label[0] >= screen[0] - 1 and label[2] <= screen[2] + 1 for label in labels)


def test_label_and_card_show_the_same_values(page: Browser) -> None:
    differing = page.run(
        "[...document.querySelectorAll('.card:not(.missing)')].filter((card) => {"
        "const words = card.querySelector('.verdict span').textContent;"
        "const [number] = card.querySelector('h3').textContent.match(/[0-9]+/);"
        "const bold = card.querySelector('.leading b').textContent;"
        "const label = [...document.querySelectorAll('#boxes .label')]"
        ".find(({textContent}) => textContent.startsWith(`#${number} `)).textContent;"
        "return label !== `#${number} ${words}` || !words.endsWith(`${bold} %`);"
        "}).map((card) => card.textContent)"
    )
    assert differing == []


TOPS_OF_CARDS = """(() => {
  const tops = [".card.gone", ".card:not(.missing)"].map((selector) =>
    [...document.querySelectorAll(selector)].map((card) => card.getBoundingClientRect().top));
  return tops.every((each) => each.length > 0) && tops;
})()"""
"""Of the faces that have left, whose cards stay for a moment, and of the present ones."""


def test_card_of_a_face_that_left_moves_behind_the_present_ones(
    page: Browser, player: Player
) -> None:
    player.tracks = (4, 5, 6)
    gone, present = page.wait_for(TOPS_OF_CARDS)
    assert max(present) < min(gone)
    page.wait_for("document.querySelectorAll('.card').length === 3")


def test_caption_of_a_folder_names_the_file(page: Browser, player: Player) -> None:
    player.file = "anna.jpg"
    page.wait_for("document.getElementById('caption').textContent.startsWith('anna.jpg, 640')")


def test_lost_source_shows_unknown_faces_and_stale_figures(page: Browser, player: Player) -> None:
    player.is_lost = True
    page.wait_for_state("lost")
    page.wait_for("document.querySelectorAll('.card').length === 0")
    assert page.text("#no-faces") == "No frame: faces are unknown."
    assert page.text("#pipeline-detail") == "from before the interruption"
    assert page.run("getComputedStyle(document.getElementById('stages')).opacity") == "0.5"
    player.is_lost = False
    page.wait_for_state("running")
    assert page.text("#pipeline-detail") == "over the last minute"


def test_session_lists_events_and_totals(page: Browser, player: Player) -> None:
    player.happen(event(EventKind.APPEARED, number=1))
    player.happen(event(EventKind.EMOTION_CHANGED, previous="sad", number=2))
    player.happen(event(EventKind.LEFT, number=3))
    page.wait_for("document.querySelectorAll('#events li').length === 3")
    words = page.each("#events li span", "element.textContent")
    assert words == ["Face 5 left after 2 s", "Face 5: sad → happy", "Face 5 appeared"]
    page.wait_for("document.getElementById('visits').textContent === '1'")
    shares = page.each("#share-list b", "parseInt(element.textContent)")
    assert len(shares) == len(FACE_LABELS)
    assert 96 <= sum(shares) <= 104


def test_mirror_flips_picture_and_boxes(page: Browser) -> None:
    left = "document.querySelector('.box').getBoundingClientRect().left / innerWidth"
    before = page.run(left)
    page.press("m")
    page.wait_for(f"document.body.classList.contains('mirror') && {left} > 0.5")
    assert before < 0.5
    (screen,) = page.run(RECTS, "#screen")
    assert screen[2] - screen[0] > 0.9 * page.run("innerWidth")
    page.one("body").send_keys("m")
    page.wait_for(f"!document.body.classList.contains('mirror') && {left} < 0.5")


CLICK = """((x, y) => {
  const screen = document.getElementById("screen");
  const {left, top, width, height} = screen.getBoundingClientRect();
  const place = {clientX: left + x * width, clientY: top + y * height, bubbles: true};
  screen.dispatchEvent(new MouseEvent("click", place));
})(arguments[0], arguments[1])"""


def test_drawn_zone_becomes_settings_text(page: Browser) -> None:
    page.press("z")
    for corner in ((0.1, 0.1), (0.5, 0.1), (0.5, 0.4), (0.1, 0.1)):
        page.run(CLICK, *corner)
    lines = str(page.one("#zones-text").get_attribute("value")).splitlines()
    assert (lines[:2], lines[-1]) == (["[zones]", "ignore = ["], "]")
    (zone,) = tomllib.loads("\n".join(lines))["zones"]["ignore"]
    corners = ([0.1, 0.1], [0.5, 0.1], [0.5, 0.4])
    assert zone == [pytest.approx(corner, abs=0.01) for corner in corners]
    assert len(page.all("#zones-layer polygon.drawn")) == 1
    page.one("#zones-clear").click()
    assert page.all("#zones-layer polygon") == []
    page.one("#zones").click()
    assert not page.one("#zones-panel").is_displayed()


def test_photo_shows_the_models_output(page: Browser, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), draw_scene((100, 60, 200), size=(1300, 400)))
    page.one("#photo-file").send_keys(str(photo))
    page.wait_for("document.querySelectorAll('#photo-faces .card').length === 1")
    assert page.run("document.getElementById('photo-canvas').width") == 960
    numbers = page.each("#photo-faces b", "parseInt(element.textContent)")
    assert 97 <= sum(numbers) <= 103
    page.one("#photo-close").click()
    assert not page.one("#photo-dialog").is_displayed()


def test_click_that_ends_the_mirror_adds_no_corner_of_a_zone(page: Browser) -> None:
    page.one("#zones").click()
    page.press("m")
    page.wait_for("document.body.classList.contains('mirror')")
    page.one("#screen").click()
    page.wait_for("!document.body.classList.contains('mirror')")
    assert page.all("#zones-layer ellipse") == []
    page.one("#zones").click()


HOLD_FIRST_PHOTO = """
const original = window.fetch;
let held = false;
window.fetch = async (path, options) => {
  const response = await original(path, options);
  if (held || !path.startsWith("/photo")) return response;
  held = true;
  window.isHeld = true;
  await new Promise((resolve) => { window.release = resolve; });
  window.fetch = original;
  return response;
};
"""


def test_late_photo_result_does_not_replace_the_next_photo(page: Browser, tmp_path: Path) -> None:
    for name, scene in (
        ("face", draw_scene((100, 60, 200), size=(1300, 400))),
        ("empty", np.zeros((200, 300, 3), np.uint8)),
    ):
        cv2.imwrite(str(tmp_path / f"{name}.png"), scene)
    page.driver.execute_script(HOLD_FIRST_PHOTO)
    page.one("#photo-file").send_keys(str(tmp_path / "face.png"))
    page.wait_for("window.isHeld === true")
    page.one("#photo-close").click()
    page.one("#photo-file").send_keys(str(tmp_path / "empty.png"))
    page.wait_for("document.getElementById('photo-status').textContent === 'No faces found.'")
    page.run("window.release()")
    page.driver.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.text("#photo-status") == "No faces found."
    assert page.all("#photo-faces .card") == []
    page.one("#photo-close").click()


def test_file_that_is_no_image_is_refused_by_the_page(page: Browser, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    page.one("#photo-file").send_keys(str(tmp_path / "notes.png"))
    page.wait_for("document.getElementById('photo-status').textContent.includes('as an image')")
    page.one("#photo-close").click()


def test_language_choice_translates_the_page(page: Browser) -> None:
    page.run("document.getElementById('language').value = 'de'")
    page.run("document.getElementById('language').dispatchEvent(new Event('change'))")
    page.wait_for("document.documentElement.lang === 'de'")
    page.wait_for("document.querySelectorAll('.card').length === 6")
    assert page.text("#faces-title") == "Gesichter"
    assert page.text("#state") == "Live"
    labels = page.each(".card:first-child .bars .label", "element.textContent")
    assert labels[0] == "wütend"
    page.run("localStorage.clear()")
