"""The page, in a real browser, on a running daemon."""

import itertools
import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import material
from drawing import draw_scene
from preview.browsing import PHONE, Browser, browser
from preview.portraits import write_people
from running import PATIENCE, STOP_LIMIT, RunningProgram, camera, eventually, free_port, running
from selenium.webdriver.common.keys import Keys

from edge_daemon._lib.files import bundled_models
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.preview.app import page_files
from edge_daemon.records import EMOTIONS

BY_HAAR = ("--detector", "haar")

CLEAR = "document.createElement('canvas')"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def chromium(downloads: Path) -> Iterator[Browser]:
    with browser(downloads) as made:
        yield made


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("clips") / "people.mp4", seconds=12, mood_length=2)


class LivePage:
    """A daemon, and its page in the browser."""

    def __init__(self, program: RunningProgram, page: Browser, url: str) -> None:
        self.program = program
        self.page = page
        self.url = url

    def open(self) -> None:
        self.page.open(self.url)
        self.page.wait_for_state("running")
        self.page.wait_for("document.querySelectorAll('.box').length === 2")

    def frame_count(self) -> int:
        """Frames of the last minute."""
        with urllib.request.urlopen(f"{self.url}minute.json", timeout=PATIENCE) as response:
            return len(json.load(response)["frames"])


def announced_url(program: RunningProgram) -> str:
    program.wait_for("preview at ")
    (line,) = (line for line in program.err if "preview at " in line)
    return line.partition("preview at ")[2]


@pytest.fixture(scope="module")
def live(chromium: Browser, people: Path, tmp_path_factory: pytest.TempPathFactory):
    """One daemon for all tests that do not change it."""
    state = tmp_path_factory.mktemp("state")
    words = ("--preview", f"127.0.0.1:{free_port()}", "--source", people, *BY_HAAR)
    with running(state, *words, "--set", "device_id=porch") as program:
        yield LivePage(program, chromium, announced_url(program))


@pytest.fixture
def page(live: LivePage) -> Iterator[Browser]:
    """The page, freshly opened; its console must stay empty."""
    live.page.wears()
    live.open()
    yield live.page
    assert live.page.complaints() == []


def test_picture_is_updated(page: Browser) -> None:
    assert page.text("#state") == "Live"
    first = page.pixels("#picture")
    page.wait_for("document.getElementById('picture').toDataURL() !== arguments[0]", first)


def test_caption_has_the_position_in_the_video(page: Browser) -> None:
    page.wait_for(
        "/^960 . 600, \\d+\\.\\d s into the video, \\d+ ms old$/"
        ".test(document.getElementById('caption').textContent)"
    )


TWO_BOXES_READ = r"""(() => {
  const boxes = [...document.querySelectorAll(".box")];
  const labels = [...document.querySelectorAll("#boxes .label:not([hidden])")];
  const read = labels.every((label) => /^#\d+ [a-z]+\??\s\d+ %$/.test(label.textContent));
  const places = boxes.map((box) => box.getBoundingClientRect().toJSON());
  return read && places.length === 2 && places.sort((one, other) => one.x - other.x);
})()"""


def test_boxes_surround_faces_with_labels(page: Browser) -> None:
    picture = page.one("#picture").rect
    left, right = page.wait_for(TWO_BOXES_READ)
    for rect, centre in ((left, 0.31), (right, 0.71)):
        middle = (rect["x"] + rect["width"] / 2 - picture["x"]) / picture["width"]
        assert middle == pytest.approx(centre, abs=0.08)
        assert picture["y"] < rect["y"] < picture["y"] + picture["height"] / 2


def test_card_has_bar_and_two_numbers_per_emotion(page: Browser) -> None:
    page.wait_for("document.querySelectorAll('.card').length >= 2")
    rows = page.each(".card:first-child .bars li", "element.innerText.trim().split(/\\s+/)")
    assert tuple(name for name, _, _ in rows) == EMOTIONS
    assert 97 <= sum(int(smoothed) for _, smoothed, _ in rows) <= 103
    assert 97 <= sum(int(raw) for _, _, raw in rows) <= 103
    page.wait_for(
        "document.querySelector('.card .fill').parentElement.style.getPropertyValue('--share') > 0"
    )


SECONDS_DRAWN = """Math.max(0, ...[
  ...document.querySelectorAll(".card:not(.gone) .ribbon")
].map((ribbon) => {
  const {width, height} = ribbon;
  const {data} = ribbon.getContext("2d").getImageData(0, height >> 1, width, 1);
  return 60 * data.filter((value, index) => index % 4 === 3 && value === 255).length / width;
}))"""


def test_timeline_starts_before_the_page_was_opened(page: Browser, live: LivePage) -> None:
    def goes_back() -> bool:
        live.open()
        drawn = page.wait_for(SECONDS_DRAWN)
        return drawn > page.run("performance.now()") / 1000 + 2

    eventually(goes_back)


def test_pipeline_figures_are_shown(page: Browser) -> None:
    names = page.each("#stages h3", "element.innerText")
    assert names == ["capture", "detection", "inference", "publishing", "results"]
    page.wait_for("parseFloat(document.querySelector('#stages b').textContent) > 1")
    assert re.search(r"p95 \d+\.\d ms\n\d+ dropped", page.text("#stages"))
    facts = dict(page.each("#facts > div", "element.innerText.split('\\n')"))
    models = len(read_bundle(bundled_models()).members)
    assert re.fullmatch(rf"\d of {models}", facts["Members used"])
    assert facts["Broker"] == "none"


def test_pause_removes_the_picture_until_resume(page: Browser, live: LivePage) -> None:
    page.one("#pause").click()
    page.wait_for_state("paused")
    live.program.wait_for("status: paused")
    assert (page.text("#state"), page.text("#notice-title")) == ("Paused", "Paused")
    assert page.text("#notice-reason") == "The file is not read until you resume."
    assert page.text("#pause").startswith("Resume")
    assert page.all(".box") == []
    blank = f"Object.assign({CLEAR}, {{width: 960, height: 600}}).toDataURL()"
    assert page.pixels("#picture") == page.run(blank)
    page.wait_for("document.querySelectorAll('.card').length === 0")
    assert page.text("#no-faces") == "Paused: no frame."
    page.press("p")
    page.wait_for_state("running")
    page.wait_for("document.querySelectorAll('.box').length === 2")
    assert not page.one("#notice").is_displayed()


def test_pause_that_is_not_saved_is_shown(chromium: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "edge-daemon"
    folder.parent.mkdir()
    folder.touch()  # a file, in which no pause can be saved
    with (
        camera(draw_scene((60, 60, 120))) as source,
        running(
            tmp_path, "--preview", f"127.0.0.1:{free_port()}", "--source", source.url, *BY_HAAR
        ) as program,
    ):
        chromium.wears()
        chromium.open(announced_url(program))
        chromium.wait_for_state("running")
        assert not chromium.one("#pause-unsaved").is_displayed()
        chromium.one("#pause").click()
        chromium.wait_for_state("paused")
        chromium.wait_for("!document.getElementById('pause-unsaved').hidden")
        folder.unlink()
        chromium.one("#pause").click()
        chromium.wait_for_state("running")
        chromium.wait_for("document.getElementById('pause-unsaved').hidden")


def test_raw_button_switches_values_and_label(page: Browser) -> None:
    assert page.text("#key-bar") == "smoothed"
    page.one("#raw").click()
    assert page.one("#raw").get_attribute("aria-pressed") == "true"
    assert (page.text("#key-bar"), page.text("#key-tick")) == ("this frame", "smoothed")
    page.wait_for("document.querySelector('#boxes .label').textContent.endsWith('raw')")
    page.press("r")
    assert page.one("#raw").get_attribute("aria-pressed") == "false"


def test_crops_button_shows_the_models_input(page: Browser) -> None:
    assert not any(page.each(".crop", "element.checkVisibility()"))
    page.press("c")
    page.wait_for(
        "[...document.querySelectorAll('.crop:not([hidden])')].filter((crop) =>"
        "new Set(crop.getContext('2d').getImageData(0, 0, 48, 48).data).size > 50).length >= 2"
    )


def test_last_minute_is_downloaded(page: Browser, live: LivePage, downloads: Path) -> None:
    eventually(lambda: live.frame_count() > 10)
    page.press("d")
    eventually(lambda: list(downloads.glob("edge-daemon-porch-*.json")))
    (file,) = downloads.glob("*.json")
    assert len(json.loads(file.read_text())["frames"]) > 10


def test_shortcuts_can_be_disabled(page: Browser) -> None:
    assert page.one("#raw kbd").is_displayed()
    # The faces' cards move what is below them, so a click at a place could miss it.
    page.run("document.getElementById('shortcuts').click()")
    assert not page.one("#raw kbd").is_displayed()
    page.press("r")
    assert page.one("#raw").get_attribute("aria-pressed") == "false"


def test_shortcuts_ignore_browser_shortcuts(page: Browser) -> None:
    page.one("body").send_keys(Keys.CONTROL + "c")
    assert page.one("#crops").get_attribute("aria-pressed") == "false"


def test_second_page_is_served_and_counted(page: Browser, live: LivePage) -> None:
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("window")
    second = page.driver.current_window_handle
    try:
        page.open(live.url)
        page.wait_for("document.getElementById('facts').textContent.includes('Pages open2')")
        before = page.pixels("#picture")
        page.wait_for("document.getElementById('picture').toDataURL() !== arguments[0]", before)
    finally:
        page.driver.close()
        page.driver.switch_to.window(first)
    assert second != first
    page.wait_for("document.getElementById('facts').textContent.includes('Pages open1')")


def turn(page: Browser, *states: str) -> None:
    """Make the page `hidden` or `visible`, several times in a row."""
    page.driver.execute_script(
        "for (const value of arguments[0]) {"
        "  const hidden = { value: value === 'hidden', configurable: true };"
        "  Object.defineProperty(document, 'hidden', hidden);"
        "  document.dispatchEvent(new Event('visibilitychange'));"
        "}",
        states,
    )


def test_page_hidden_for_a_moment_opens_one_connection(page: Browser) -> None:
    turn(page, "hidden", "visible", "hidden", "visible")
    page.driver.execute_async_script("setTimeout(arguments[0], 2500)")  # facts change each second
    assert "Pages open1" in page.run("document.getElementById('facts').textContent")


def test_hidden_page_requests_no_frames(page: Browser) -> None:
    turn(page, "hidden")
    still = page.pixels("#picture")
    page.driver.execute_async_script("setTimeout(arguments[0], 500)")
    assert page.pixels("#picture") == still
    turn(page, "visible")
    page.wait_for("document.getElementById('picture').toDataURL() !== arguments[0]", still)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_phone_layout_fits_the_width(page: Browser, dark: bool) -> None:  # noqa: FBT001
    page.wears(PHONE, dark=dark)
    page.press("c")
    page.wait_for("document.querySelectorAll('.crop:not([hidden])').length >= 2")
    assert page.run("document.documentElement.scrollWidth") <= PHONE[0]
    beyond = page.run(
        "[...document.querySelectorAll('body *')].filter((element) => {"
        "const {left, right, width} = element.getBoundingClientRect();"
        "return width && !element.closest('#boxes, .unseen, .drop') "
        "&& (left < -1 || right > innerWidth + 1);"
        "}).map(({outerHTML}) => outerHTML.slice(0, 80))"
    )
    assert beyond == []
    assert min(page.each(".controls > *", "element.getBoundingClientRect().height")) >= 44


CONTRAST = """(() => {
  const channel = (value) =>
    value <= 10.31 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
  const probe = document.body.appendChild(document.createElement("i"));
  const luminance = (name) => {
    probe.style.color = `var(${name})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/[0-9]+/g).map(Number).map(channel);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [lighter, darker] = [luminance(arguments[0]), luminance(arguments[1])].sort().reverse();
  return (lighter + 0.05) / (darker + 0.05);
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["--paper", "--surface"])
@pytest.mark.parametrize("text", ["--ink", "--quiet", "--accent", "--alarm"])
def test_text_has_enough_contrast(
    page: Browser,
    text: str,
    ground: str,
    dark: bool,  # noqa: FBT001
) -> None:
    page.wears(dark=dark)
    assert page.run(CONTRAST, text, ground) >= 4.5
    assert page.run(CONTRAST, "--on-accent", "--accent") >= 4.5


NAMED = (
    "main :is(button, a, [role=img], section, [role=group], ol[tabindex]), "
    "footer :is(input, select)"
)


def test_controls_and_images_have_accessible_names(page: Browser) -> None:
    page.press("c")
    page.press("z")  # hidden elements have no name
    page.wait_for("document.querySelectorAll('.crop:not([hidden])').length >= 2")
    assert len(page.all(NAMED)) > 10
    page.wait_until_named(NAMED)
    assert page.run("document.documentElement.lang") == "en"
    assert "porch" in page.driver.title


RIBBON_AFTER_CLOCK_JUMP = """
    const done = arguments[0];
    import("/timeline.js").then(({ record, draw }) => {
      const shares = { angry: 1, disgust: 0, fear: 0, happy: 0, sad: 0, surprise: 0, neutral: 0 };
      const face = { track_id: -1, probabilities: shares, raw: shares };
      const show = (time) => record({ time: new Date(time).toISOString(), faces: [face] });
      const now = Date.now();
      show(now + 3.6e6);
      for (let age = 10; age >= 0; age--) show(now - 1000 * age);
      const canvas = document.querySelector("canvas").cloneNode();
      canvas.style.cssText = "display: block; width: 600px; height: 10px";
      document.body.append(canvas);
      draw(canvas, -1, false);
      const [, , , opacity] = canvas.getContext("2d").getImageData(canvas.width - 30, 5, 1, 1).data;
      canvas.remove();
      done(opacity);
    });
"""


def test_ribbon_continues_when_the_device_clock_is_set_back(page: Browser) -> None:
    assert page.driver.execute_async_script(RIBBON_AFTER_CLOCK_JUMP) == 255


def test_heading_levels_have_no_gaps(page: Browser) -> None:
    levels = page.each("body > :not(dialog) :is(h1, h2, h3)", "Number(element.tagName[1])")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_only_the_state_is_a_live_region(page: Browser) -> None:
    aloud = "[aria-live], [role=status], [role=alert], [role=log], output"
    assert page.each(aloud, "element.id") == ["state", "photo-status"]


def test_tab_key_reaches_all_controls_with_focus_ring(page: Browser) -> None:
    reached = []
    for _ in range(11):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(page.run("document.activeElement.id"))
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == [
        *("devices-link", "pause", "raw", "crops", "mirror", "zones", "photo", "download"),
        *("events", "shortcuts", "language"),
    ]


def test_page_shows_a_lost_connection_and_reconnects(
    chromium: Browser, people: Path, tmp_path: Path
) -> None:
    chromium.wears()
    words = ("--preview", f"127.0.0.1:{free_port()}", "--source", people, *BY_HAAR)
    with running(tmp_path, *words) as program:
        LivePage(program, chromium, announced_url(program)).open()
        code, seconds = program.end(signal.SIGTERM)
    assert (code, seconds < STOP_LIMIT) == (0, True)
    assert "threads did not stop" not in "\n".join(program.err)
    assert "Traceback" not in "\n".join(program.err)
    chromium.wait_for_state("away")
    assert chromium.text("#notice-title") == "The daemon does not respond"
    assert (chromium.all(".box"), chromium.text("#caption")) == ([], "")
    chromium.wait_for("document.querySelectorAll('.card').length === 0")
    with running(tmp_path, *words):
        chromium.wait_for_state("running")
        chromium.wait_for("document.querySelectorAll('.box').length === 2")
        chromium.one("#pause").click()
        chromium.wait_for_state("paused")


def test_page_shows_that_the_daemon_gives_no_answer(
    chromium: Browser, people: Path, tmp_path: Path
) -> None:
    chromium.wears()
    words = ("--preview", f"127.0.0.1:{free_port()}", "--source", people, *BY_HAAR)
    with running(tmp_path, *words) as program:
        LivePage(program, chromium, announced_url(program)).open()
        program.process.send_signal(signal.SIGSTOP)  # like a power cut, it closes no connection
        chromium.wait_for_state("away")
        assert (chromium.all(".box"), chromium.text("#caption")) == ([], "")
        program.process.send_signal(signal.SIGCONT)
        chromium.wait_for_state("running")
        chromium.wait_for("document.querySelectorAll('.box').length === 2")


def test_login_page_accepts_the_token(chromium: Browser, people: Path, tmp_path: Path) -> None:
    chromium.wears()
    port = free_port()
    words = ("--preview", f"0.0.0.0:{port}", "--source", people, *BY_HAAR)
    with running(tmp_path, *words) as program:
        token = announced_url(program).partition("token=")[2]
        for wrong in ("", "?token=wrong"):
            chromium.open(f"http://127.0.0.1:{port}/{wrong}")
            assert chromium.text("h1") == "This preview requires a token"
            assert chromium.all("canvas") == []
        chromium.one("#token").send_keys("also wrong" + Keys.ENTER)
        chromium.wait_for("location.search !== '?token=wrong'")
        assert chromium.text("h1") == "This preview requires a token"
        chromium.complaints()  # the refusals
        chromium.one("#token").send_keys(token + Keys.ENTER)
        chromium.wait_for("document.body.dataset.state === 'running'")
        assert chromium.driver.current_url == f"http://127.0.0.1:{port}/"
        chromium.wait_for("document.querySelectorAll('.box').length === 2")
        assert "edge-daemon" not in chromium.run("document.cookie")
        assert chromium.complaints() == []
        assert sum(token in line for line in program.out + program.err) == 1


def test_real_faces_have_cards(chromium: Browser, tmp_path: Path) -> None:
    chromium.wears()
    clip = material("clips/head-pose-face-detection-female-and-male.mp4")
    words = ("--preview", f"127.0.0.1:{free_port()}", "--source", clip, *BY_HAAR)
    with running(tmp_path, *words) as program:
        chromium.open(announced_url(program))
        chromium.wait_for("document.querySelectorAll('.card').length >= 1")
        assert chromium.complaints() == []


LANGUAGES = ("en.js", "de.js")
FILES = {name: file.content.decode() for name, file in page_files().items()}


@pytest.mark.parametrize("name", FILES)
def test_page_file_has_no_external_url(name: str) -> None:
    text = FILES[name].replace("http://www.w3.org/2000/svg", "")  # a namespace, never fetched
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+|@import|url\(", text) == []


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".html")])
def test_html_has_no_inline_script_or_style(name: str) -> None:
    assert re.findall(r"<script>|<style|\sstyle=|\son\w+=|javascript:", FILES[name]) == []


def test_scripts_have_the_daemons_emotions_in_order() -> None:
    (listed,) = re.findall(r"EMOTIONS = (\[.*\]);", FILES["emotions.js"])
    assert tuple(json.loads(listed)) == EMOTIONS
    for name in EMOTIONS:
        assert f"--{name}:" in FILES["preview.css"]


def test_scripts_refer_to_existing_elements() -> None:
    scripts = "".join(text for name, text in FILES.items() if name.endswith(".js"))
    names = set(re.findall(r'(?:getElementById|\bat|copy)\("([\w-]+)"\)', scripts))
    assert len(names) > 15
    assert names <= set(re.findall(r'\bid="([\w-]+)"', FILES["index.html"] + FILES["devices.html"]))


def test_languages_have_the_same_keys() -> None:
    keys = [set(re.findall(r"^ +(\w+):", FILES[name], re.MULTILINE)) for name in LANGUAGES]
    assert all(each == keys[0] for each in keys)


@pytest.mark.parametrize(("name", "count"), [("index.html", 30), ("devices.html", 6)])
def test_html_names_existing_texts(name: str, count: int) -> None:
    keys = set(re.findall(r'data-(?:text|label)="([\w.]+)"', FILES[name]))
    assert len(keys) > count
    for key in keys:
        assert re.search(rf"\b{key.split('.')[-1]}:", FILES["en.js"]), key
