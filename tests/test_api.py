"""The public Python API."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import draw_scene

import edge_daemon
from edge_daemon import AnalyzedFace, analyze
from edge_daemon.analysis import ImageAnalyzer
from edge_daemon.config.settings import InferenceSettings, Settings
from edge_daemon.errors import SourceError
from edge_daemon.records import EMOTIONS, Image

PUBLIC = ["AnalyzedFace", "EmotionEnsemble", "__version__", "analyze"]


def test_public_names_are_listed_and_importable() -> None:
    assert sorted(edge_daemon.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(edge_daemon))
    assert all(hasattr(edge_daemon, name) for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'analyse'"):
        edge_daemon.analyse  # noqa: B018  # type: ignore[attr-defined]


@pytest.mark.slow
def test_import_loads_no_heavy_module() -> None:
    code = (
        "import sys, edge_daemon.cli; print({'cv2', 'paho', 'ai_edge_litert'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def scene() -> Image:
    """One face."""
    return np.asarray(draw_scene((60, 60, 120)), np.uint8)


def check(faces: list[AnalyzedFace]) -> None:
    (face,) = faces
    x, y, width, height = face.box
    assert x < 120 < x + width
    assert y < 120 < y + height
    assert 0 < face.score <= 1
    assert face.probabilities is not None
    assert tuple(face.probabilities) == EMOTIONS
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert face.emotion == max(face.probabilities, key=face.probabilities.__getitem__)
    assert face.unscored is None


def test_analyze_takes_pixels_paths_and_sequences(scene: Image, tmp_path: Path) -> None:
    file = tmp_path / "face.png"
    cv2.imwrite(str(file), scene)
    for image in (scene, file, str(file)):
        check(analyze(image))
    both = analyze([scene, file])
    assert [len(faces) for faces in both] == [1, 1]
    check(both[1])
    assert analyze(np.zeros((40, 60, 3), np.uint8)) == []
    assert analyze([]) == []


def test_analyze_of_a_reduced_image_gives_its_own_pixels(
    scene: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scene.jpg"
    assert cv2.imwrite(str(file), cv2.resize(scene, None, fx=2, fy=2))
    (whole,) = analyze(file)
    monkeypatch.setattr("edge_daemon.capture.image_decoding.MAX_IMAGE_PIXELS", scene.size // 3)
    (reduced,) = analyze(file)
    assert reduced.box.iou(whole.box) > 0.8


@pytest.mark.parametrize("suffix", [".gif", ".jfif"])
def test_analyze_takes_any_image_file(scene: Image, tmp_path: Path, suffix: str) -> None:
    written = ".jpg" if suffix == ".jfif" else suffix
    if not cv2.haveImageWriter(f"face{written}"):  # GIF since OpenCV 4.12
        pytest.skip(f"this OpenCV writes no {written}")
    file = tmp_path / f"face{suffix}"
    file.write_bytes(cv2.imencode(written, scene)[1].tobytes())
    check(analyze(file))


def test_analyze_faint_face_is_left_out(scene: Image) -> None:
    (face,) = analyze(scene)
    settings = Settings()
    for min_score, faces in ((settings.detection.min_score, 1), (face.score + 0.01, 0)):
        detection = settings.detection.model_copy(update={"min_score": min_score})
        analyzer = ImageAnalyzer(settings.model_copy(update={"detection": detection}))
        assert len(analyzer.analyze(scene).faces) == faces


def test_analyzer_applies_an_explicit_prior_only(scene: Image) -> None:
    def happy(prior: str) -> float:
        settings = Settings(inference=InferenceSettings(prior=prior))
        (face,) = ImageAnalyzer(settings).analyze(scene).faces
        assert face.probabilities is not None
        return float(face.probabilities[EMOTIONS.index("happy")])

    shares = ",".join(f"{name}={0.9 if name == 'happy' else 0.01}" for name in EMOTIONS)
    assert happy("auto") == happy("none") < happy(shares)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 60), np.uint8),
        np.zeros((40, 60, 4), np.uint8),
        np.zeros((40, 60, 3), np.float32),
        np.zeros((0, 60, 3), np.uint8),
    ],
)
def test_analyze_other_arrays_are_refused(image: Image) -> None:
    with pytest.raises(ValueError, match=r"^image: must be BGR uint8 \[H, W, 3\] \(got "):
        analyze(image)


def test_analyze_file_that_is_no_image_is_refused(tmp_path: Path, drawn_clip: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        analyze(tmp_path / "absent.png")
    with pytest.raises(SourceError, match="not an image"):
        analyze(drawn_clip)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"\x89PNG")
    with pytest.raises(SourceError):
        analyze(damaged)
