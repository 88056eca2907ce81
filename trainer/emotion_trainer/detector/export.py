"""Export of a detector to int8 TFLite, with the manifest by which the daemon runs it."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.files import sha256_of
from edge_daemon._lib.validation import Provenance
from edge_daemon.config.settings import DetectionSettings
from edge_daemon.detection import Framing
from edge_daemon.detection.bundled import (
    DetectorManifest,
    DetectorMetrics,
    NetworkFile,
    VerifierNetwork,
    write_manifest,
)
from edge_daemon.detection.decoding import STRIDES
from emotion_trainer.detector import network
from emotion_trainer.detector.candidates import candidates_in, verified_precision
from emotion_trainer.detector.data import DetectorData
from emotion_trainer.detector.evaluation import average_precision, match_photos
from emotion_trainer.detector.faces import Finder, LabelledImage
from emotion_trainer.detector.framing import measure_framing
from emotion_trainer.detector.predictions import (
    keras_finder,
    search_finder,
    tflite_finder,
)
from emotion_trainer.detector.recipe import DetectorRecipe, NetworkSettings, VerifierSettings
from emotion_trainer.detector.runs import DetectorRun
from emotion_trainer.detector.scenes import SceneMaker
from emotion_trainer.errors import ExportError
from emotion_trainer.export.conversion import convert
from emotion_trainer.export.equalisation import equalised
from emotion_trainer.models.families import cost

REPRESENTATIVES: Final = (4, 8)
"""Numbers of images that int8 ranges are measured on, of which the best is used.

Each image adds outliers: they widen a range and its steps. Too few images clip faces.
"""
DRAWS: Final = 12
"""Random draws of the images that are tried: average precision differs by up to 0.04."""
MAX_LOSS: Final = 0.02
"""Maximum loss of average precision by quantisation."""
VERIFIER_REPRESENTATIVES: Final = 400
"""Patches on which the verifier's ranges are measured."""
MANIFEST_SIDE: Final = 192
"""Side in pixels of the image whose cost is in the manifest."""
MANIFEST_NAME: Final = "detector.json"
START_SCORE: Final = DetectionSettings().min_score
"""The daemon's default `detection.min_score`, to which scores are calibrated."""
FALSE_POSITIVE_RATE: Final = 0.013
"""False positives in a calibration image at `START_SCORE`, all maps together."""
MIN_SCORE, MAX_SCORE = 0.2, 0.9
"""Bounds of the score that calibration maps to `START_SCORE`."""


def export_detector(run: DetectorRun, data: DetectorData, folder: Path) -> DetectorMetrics:
    """Export a run's best weights and put the files and their manifest into `folder`.

    Returns:
        The figures of the int8 files on the test photos.

    Raises:
        TrainingError: no epoch of the search or of its verifier was finished, the run's files
            are damaged, or it was trained on other data.
        ExportError: quantisation loses too much average precision.
    """
    run.require_data(data.fingerprint)
    verifier = run.verifier.best_model()
    calibration = data.calibration_images()
    search = _export_search(run, data, calibration)
    verifier_file = _export_verifier(run, verifier, search, calibration)
    find = search_finder(search, verifier_file)
    metrics = measure(find, data.test)
    folder.mkdir(parents=True, exist_ok=True)
    for file in (search, verifier_file):
        shutil.copyfile(file, folder / file.name)
    framing = measure_framing(find, data.held_out)
    write_manifest(_manifest(run, verifier, metrics, framing), folder / MANIFEST_NAME)
    return metrics


def _export_search(
    run: DetectorRun, data: DetectorData, calibration: Sequence[LabelledImage]
) -> Path:
    recipe = run.record().recipe
    model = run.best_model()
    exported = run.int8_path
    images = _best_representatives(model, recipe, data, exported, calibration)
    _require_precision(model, exported, calibration)
    # A shift of the biases changes no other range, so the second file differs in scores alone.
    shift_scores(model, recipe.start_scores or calibrated_scores(exported, calibration))
    exported.write_bytes(to_int8(model, recipe.network, images))
    return exported


def _export_verifier(
    run: DetectorRun, model: keras.Model, search: Path, calibration: Sequence[LabelledImage]
) -> Path:
    """Convert the verifier, whose evidence gets its weight and offset in a face's score."""
    settings = run.record().recipe.verifier
    candidates = candidates_in(tflite_finder(search), calibration)
    images = candidates.patches[:: max(1, len(candidates) // VERIFIER_REPRESENTATIVES)]
    weigh_evidence(model, settings)
    exported = run.verifier_int8_path
    exported.write_bytes(convert(equalised(model, images), images))
    original = verified_precision(candidates, model.predict(candidates.patches, verbose=0)[0])
    predict = VerifierNetwork(exported, threads=1).predict
    int8 = np.array([predict(patch)[0] for patch in candidates.patches], np.float32)
    _require(exported, original, verified_precision(candidates, int8))
    return exported


def weigh_evidence(model: keras.Model, settings: VerifierSettings) -> None:
    """Give a verifier's evidence, in place, its weight and offset in a face's score."""
    layer = model.get_layer(network.EVIDENCE)
    kernel, bias = layer.get_weights()
    layer.set_weights([settings.weight * kernel, settings.weight * bias + settings.offset])


def _best_representatives(
    model: keras.Model,
    recipe: DetectorRecipe,
    data: DetectorData,
    file: Path,
    calibration: Sequence[LabelledImage],
) -> NDArray[np.uint8]:
    """The images whose ranges give the int8 file with the best average precision.

    That file is written.

    Args:
        model: the trained network.
        recipe: its recipe.
        data: the material of the images.
        file: where to write the int8 file.
        calibration: images to evaluate them on.
    """
    highest, content, best = -1.0, b"", np.empty(0, np.uint8)
    for images in _candidates(data, recipe):
        converted = to_int8(model, recipe.network, images)
        file.write_bytes(converted)
        precision = average_precision(match_photos(tflite_finder(file), calibration))
        if precision > highest:
            highest, content, best = precision, converted, images
    file.write_bytes(content)
    return best


def _require_precision(model: keras.Model, exported: Path, photos: Sequence[LabelledImage]) -> None:
    original = average_precision(match_photos(keras_finder(model), photos))
    _require(exported, original, average_precision(match_photos(tflite_finder(exported), photos)))


def _require(exported: Path, original: float, int8: float) -> None:
    if original - int8 > MAX_LOSS:
        raise ExportError(
            f"{exported}: int8 loses too much average precision (got {int8:.4f} for "
            f"{original:.4f} as float); train with a wider range of images"
        )


def shift_scores(model: keras.Model, scores: Sequence[float]) -> None:
    """Shift the logits of each map, in place, so that its score here becomes `START_SCORE`."""
    for level, score in enumerate(scores):
        bias = model.get_layer(network.score_layer(level)).bias
        bias.assign(bias + np.float32(_logit(START_SCORE) - _logit(score)))


def calibrated_scores(exported: Path, images: Sequence[LabelledImage]) -> list[float]:
    """For each map, the score above which false positives are rare enough.

    Each map is calibrated on its own, since coarse maps have fewer false positives.
    """
    levels = range(len(STRIDES))
    return [_calibrated_score(tflite_finder(exported, {level}), images) for level in levels]


def _calibrated_score(find: Finder, images: Sequence[LabelledImage]) -> float:
    matches = match_photos(find, images)
    wrong = np.sort(matches.scores[~matches.right])[::-1]
    allowed = round(FALSE_POSITIVE_RATE / len(STRIDES) * len(images))
    # A detection with exactly this score counts, so it is just above the first one too many.
    score = float(np.nextafter(wrong[allowed], 1.0)) if len(wrong) > allowed else 0.0
    return min(MAX_SCORE, max(MIN_SCORE, score))


def measure(find: Finder, photos: Sequence[LabelledImage]) -> DetectorMetrics:
    """The figures of a detector on whole photos."""
    matches = match_photos(find, photos)
    found = matches.found >= START_SCORE
    right = matches.right[matches.scores >= START_SCORE]
    errors = matches.landmark_errors[found & np.isfinite(matches.landmark_errors)]
    return DetectorMetrics(
        photos=len(photos),
        average_precision=round(average_precision(matches), 4),
        recall=round(float(found.mean()) if len(found) else 0.0, 4),
        precision=round(float(right.mean()) if len(right) else 0.0, 4),
        false_positives=round(float((~right).sum()) / len(photos), 4),
        landmark_error=round(float(errors.mean()) if len(errors) else 0.0, 4),
    )


def to_int8(model: keras.Model, settings: NetworkSettings, images: NDArray[np.uint8]) -> bytes:
    """Convert the network to a TFLite file whose outputs are the maps, with equalised channels.

    Args:
        model: the trained network.
        settings: its size.
        images: uint8 [N, S, S] on which ranges are measured; they must span all grey levels.
    """
    # The converter quantises only networks of a fixed size; the daemon resizes the file's input.
    sized = network.build(settings, images.shape[1:])
    sized.set_weights(model.get_weights())
    return convert(equalised(network.maps_of(sized), images), images)


def _candidates(data: DetectorData, recipe: DetectorRecipe) -> Iterator[NDArray[np.uint8]]:
    """Images to measure ranges on, uint8 [N, S, S]: several draws, of each number."""
    maker = SceneMaker(data.training, recipe.scenes)
    for draw in range(DRAWS):
        rng = np.random.default_rng(recipe.seed + draw)
        images = np.stack([maker.scene(rng).image for _ in range(max(REPRESENTATIVES))])
        images[0, 0, :2] = 0, 255
        for number in REPRESENTATIVES:
            yield images[:number]


def _manifest(
    run: DetectorRun, verifier: keras.Model, metrics: DetectorMetrics, framing: Framing
) -> DetectorManifest:
    record = run.record()
    search = network.build(record.recipe.network, (MANIFEST_SIDE, MANIFEST_SIDE))
    return DetectorManifest(
        schema_version=1,
        search=_network_file(run.int8_path, search),
        verifier=_network_file(run.verifier_int8_path, verifier),
        framing=framing,
        metrics=metrics,
        provenance=Provenance(
            recipe=record.recipe.name,
            seed=record.recipe.seed,
            data_fingerprint=record.data_fingerprint,
            commit=record.commit,
        ),
    )


def _network_file(path: Path, model: keras.Model) -> NetworkFile:
    return NetworkFile(
        file=path.name,
        sha256=sha256_of(path),
        mmac=round(cost.mmac(model), 2),
        parameters=cost.parameters(model),
    )


def _logit(score: float) -> float:
    return float(np.log(score / (1 - score)))
