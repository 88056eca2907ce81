"""Damaged bundles and detectors: refused with one line, or they work."""

import json
import math
import os
import random
import shutil
import signal
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import frame
from drawing import draw_face, draw_scene
from fuzz.generated import many
from fuzz.program import forks
from hypothesis import example, given
from hypothesis import strategies as st

from edge_daemon._lib.files import bundled_detector, bundled_models, sha256_of
from edge_daemon.config.settings import QualitySettings
from edge_daemon.detection.bundled import BundledDetector
from edge_daemon.detection.step import FaceFinder
from edge_daemon.errors import BundleError, DetectorError
from edge_daemon.inference.ensemble import EmotionEnsemble

Manifest = dict[str, Any]
Place = tuple[str | int, ...]

FACES = np.stack([draw_face(48), np.zeros((48, 48), np.uint8)])
LIMITS = QualitySettings()
SCENE = draw_scene((60, 60, 120), (220, 10, 60))


def places(value: object, above: Place = ()) -> list[Place]:
    """Paths of all values in a manifest."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [place for key, one in inner for place in [(*above, key), *places(one, (*above, key))]]


def put(manifest: Manifest, place: Place, value: object) -> None:
    """Set the value at a path, if the path exists; `GONE` removes it."""
    *way, last = place
    holder: Any = manifest
    for key in way:
        if not isinstance(holder, dict | list) or (isinstance(holder, dict) and key not in holder):
            return
        holder = holder[key]
    if isinstance(holder, dict):
        holder.pop(last, None)
        if value is not GONE:
            holder[last] = value
    elif isinstance(holder, list) and isinstance(last, int) and last < len(holder):
        holder[last] = None if value is GONE else value


GONE = object()

BUNDLE: Manifest = json.loads((bundled_models() / "bundle.json").read_text())
DETECTOR: Manifest = json.loads(bundled_detector().read_text())

odd = (
    st.sampled_from(
        [
            *(GONE, None, True, 0, -1, 1e-300, 1e300, math.inf, math.nan, 10**30, 0.5, 2),
            *("", "x", "a\nb", "\x1b[2J", "\0", "x" * 10_000, "../other.tflite", "/etc/passwd"),
            *("..", "a/../b.tflite", "bundle.json", "0" * 64, "9999-12-31T23:59:59+00:00"),
            *([], {}, [[]], {"": 0}, {"a\nb": 1}, ["angry"], {"happy": 1e308}),
        ]
    )
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
)


def refused_in_a_line(made: Callable[[], object], error: type[Exception], folder: Path) -> bool:
    """Whether it is refused, with one line that names the file."""
    try:
        made()
    except error as refusal:
        (line,) = str(refusal).splitlines()
        assert str(folder) in line
        assert line.isprintable()
        assert len(line) < 1000
        return True
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundled models, to be damaged."""
    return Path(shutil.copytree(bundled_models(), tmp_path_factory.mktemp("bundles") / "models"))


@many(120)
@given(changes=st.dictionaries(st.sampled_from(places(BUNDLE)), odd, min_size=1, max_size=2))
@example(changes={("members", 0, "weight"): 1e308, ("members", 1, "weight"): 1e308})
@example(changes={("ensemble", "temperatures", 0): 1e-300})
@example(changes={("ensemble", "temperatures", 2): math.inf})
@example(changes={("ensemble", "adjustment"): {"happy": 1e300}})
@example(changes={("bundle_id",): "a\nb"})
@example(changes={("a\nb",): 1})
def test_any_manifest_is_refused_or_gives_probabilities(
    folder: Path, changes: dict[Place, object]
) -> None:
    manifest = deepcopy(BUNDLE)
    for place, value in changes.items():
        put(manifest, place, value)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    ensembles: list[EmotionEnsemble] = []
    made = lambda: ensembles.append(EmotionEnsemble.load(folder))  # noqa: E731
    if not refused_in_a_line(made, BundleError, folder):
        given_back = ensembles[0].predict(FACES)
        assert np.isfinite(given_back).all()
        np.testing.assert_allclose(given_back.sum(axis=1), 1, rtol=1e-4)
        assert ensembles[0].bundle.bundle_id.isprintable()


@many(60)
@given(changes=st.dictionaries(st.sampled_from(places(DETECTOR)), odd, min_size=1, max_size=2))
@example(changes={("framing", "x"): 1e300})
@example(changes={("framing", "width"): 1e-300})
def test_any_manifest_of_a_detector_is_refused_or_gives_faces(
    folder: Path, changes: dict[Place, object]
) -> None:
    manifest = deepcopy(DETECTOR)
    for place, value in changes.items():
        put(manifest, place, value)
    (folder / "detector.json").write_text(json.dumps(manifest))
    detectors: list[BundledDetector] = []
    made = lambda: detectors.append(BundledDetector(folder / "detector.json", 0.5))  # noqa: E731
    if not refused_in_a_line(made, DetectorError, folder):
        for face in FaceFinder(detectors[0], 640, LIMITS)(frame(bgr=SCENE)).faces:
            assert np.isfinite(face.detection.box).all()
            assert face.crop.shape == (48, 48)


@many(40)
@given(text=st.text(max_size=40) | st.binary(max_size=40), place=st.integers(0, 3000))
@example(text="[" * 100_000, place=0)
@example(text="9" * 10_000, place=20)
def test_any_text_in_a_manifest_gives_a_bundle_or_one_line(
    folder: Path, text: str | bytes, place: int
) -> None:
    whole = json.dumps(BUNDLE).encode()
    junk = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    (folder / "bundle.json").write_bytes(whole[:place] + junk + whole[place:])
    refused_in_a_line(lambda: EmotionEnsemble.load(folder), BundleError, folder)


def damaged(content: bytes, seed: int) -> bytes:
    """A copy that is truncated, partly zeroed, or has flipped bits."""
    chance = random.Random(seed)
    spoilt = bytearray(content)
    if seed % 3 == 0:
        return bytes(spoilt[: chance.randrange(1, len(spoilt))])
    if seed % 3 == 1:
        start = chance.randrange(len(spoilt))
        spoilt[start : start + 4096] = bytes(len(spoilt[start : start + 4096]))
    else:
        for _ in range(chance.choice([1, 8, 64])):
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


DAMAGED = 40
"""Number of damaged models of each kind."""

REFUSED, WORKS = 10, 11
"""Exit codes."""


def try_damaged(folder: Path, name: str, use: Callable[[Path], None], outcomes: Path) -> None:
    """In a separate process: damage and use a model in many ways, each in a fork."""
    content = (folder / name).read_bytes()
    codes = []
    for seed in range(DAMAGED):
        (folder / name).write_bytes(damaged(content, seed))
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            use(folder)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    outcomes.write_text(json.dumps(codes))


def use_member(folder: Path) -> None:
    manifest = deepcopy(BUNDLE)
    for member in manifest["members"]:
        member["sha256"] = sha256_of(folder / member["file"])
    (folder / "bundle.json").write_text(json.dumps(manifest))
    ensembles: list[EmotionEnsemble] = []
    made = lambda: ensembles.append(EmotionEnsemble.load(folder))  # noqa: E731
    if refused_in_a_line(made, BundleError, folder):
        os._exit(REFUSED)
    ensembles[0].predict(FACES)
    os._exit(WORKS)


def use_detector(folder: Path) -> None:
    manifest = deepcopy(DETECTOR)
    for network in (manifest["search"], manifest["verifier"]):
        network["sha256"] = sha256_of(folder / network["file"])
    (folder / "detector.json").write_text(json.dumps(manifest))
    detectors: list[BundledDetector] = []
    made = lambda: detectors.append(BundledDetector(folder / "detector.json", 0.5))  # noqa: E731
    if refused_in_a_line(made, DetectorError, folder):
        os._exit(REFUSED)
    detectors[0].detect(SCENE)
    os._exit(WORKS)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        (BUNDLE["members"][0]["file"], use_member),
        (DETECTOR["search"]["file"], use_detector),
        (DETECTOR["verifier"]["file"], use_detector),
    ],
    ids=["member", "search", "verifier"],
)
def test_damaged_model_with_a_right_checksum_is_refused_or_works(
    tmp_path: Path, name: str, use: Callable[[Path], None]
) -> None:
    """The runtime rarely aborts instead of an error; checksums protect against that."""
    folder = Path(shutil.copytree(bundled_models(), tmp_path / "models"))
    outcomes = tmp_path / "outcomes"
    process = forks().Process(target=try_damaged, args=(folder, name, use, outcomes))
    process.start()
    process.join(250)
    codes = json.loads(outcomes.read_text())
    print({code: codes.count(code) for code in set(codes)})
    assert set(codes) <= {REFUSED, WORKS, -signal.SIGABRT, -signal.SIGSEGV}
    assert codes.count(REFUSED) >= DAMAGED / 3
    assert codes.count(REFUSED) + codes.count(WORKS) >= 0.95 * DAMAGED
