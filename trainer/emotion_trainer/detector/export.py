"""Export of a detector to TFLite in integers, with the manifest by which the daemon runs it."""

import shutil
from pathlib import Path
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.files import sha256_of
from edge_daemon.detection.manifest import (
    DetectorManifest,
    DetectorMetrics,
    DetectorProvenance,
    write_manifest,
)
from emotion_trainer.conversion import convert
from emotion_trainer.detector import network
from emotion_trainer.detector.calibration import deserving_score, shift_scores
from emotion_trainer.detector.data import DetectorData
from emotion_trainer.detector.framing import measure_framing
from emotion_trainer.detector.predictions import keras_finder, tflite_finder
from emotion_trainer.detector.recipe import DetectorRecipe, NetworkSettings
from emotion_trainer.detector.report import Report, measure
from emotion_trainer.detector.runs import DetectorRun
from emotion_trainer.detector.scenes import SceneMaker
from emotion_trainer.errors import ExportError
from emotion_trainer.families import cost

REPRESENTATIVES: Final = 200
LARGEST_LOSS: Final = 0.02
"""Of average precision."""
QUOTED_SIDE: Final = 192
"""Of the picture whose cost the manifest tells, in pixels."""
MANIFEST_NAME: Final = "detector.json"


def export_detector(run: DetectorRun, data: DetectorData, folder: Path) -> Report:
    """Export a run's best weights and put the file and its manifest into `folder`.

    Raises:
        TrainingError: no epoch was finished, or the run's files are damaged.
        ExportError: the int8 file finds less than its original does.
    """
    record = run.record()
    recipe = record.recipe
    model = run.best_model()
    uncalibrated = measure(keras_finder(model), data, recipe.scenes)
    shift_scores(model, deserving_score(uncalibrated.imagined, uncalibrated.empty))
    original = measure(keras_finder(model), data, recipe.scenes)
    unfinished = run.folder / "unfinished.tflite"
    unfinished.write_bytes(to_int8(model, recipe.network, _representatives(data, recipe)))
    report = measure(tflite_finder(unfinished), data, recipe.scenes)
    if original.average_precision - report.average_precision > LARGEST_LOSS:
        raise ExportError(
            f"{unfinished}: int8 loses too much: average precision "
            f"{original.average_precision:.4f} as float, {report.average_precision:.4f} as int8"
        )
    exported = run.exported()
    unfinished.replace(exported)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(exported, folder / exported.name)
    write_manifest(_manifest(run, exported, report, data), folder / MANIFEST_NAME)
    return report


def to_int8(model: keras.Model, settings: NetworkSettings, pictures: NDArray[np.uint8]) -> bytes:
    """The network as a TFLite file whose outputs are the maps, and whose input may be resized.

    Args:
        model: the trained network.
        settings: its size.
        pictures: uint8 [N, S, S], on which ranges are measured; they must span all grey levels.
    """
    # The converter quantises networks of a fixed size alone.
    sized = network.build(settings, pictures.shape[1:])
    sized.set_weights(model.get_weights())
    return convert(network.maps_of(sized), pictures)


def _representatives(data: DetectorData, recipe: DetectorRecipe) -> NDArray[np.uint8]:
    maker = SceneMaker(data.training, recipe.scenes)
    rng = np.random.default_rng(recipe.seed)
    pictures = np.stack([maker.scene(rng).image for _ in range(REPRESENTATIVES)])
    pictures[0, 0, :2] = 0, 255
    return pictures


def _manifest(
    run: DetectorRun, exported: Path, report: Report, data: DetectorData
) -> DetectorManifest:
    record = run.record()
    sized = network.build(record.recipe.network, (QUOTED_SIDE, QUOTED_SIDE))
    return DetectorManifest(
        schema_version=1,
        file=exported.name,
        sha256=sha256_of(exported),
        mmac=round(cost.mmac(sized), 2),
        parameters=cost.parameters(sized),
        framing=measure_framing(tflite_finder(exported), data.validation.crops),
        metrics=DetectorMetrics(
            scenes=report.scenes,
            average_precision=round(report.average_precision, 4),
            recall=round(report.recall, 4),
            precision=round(report.precision, 4),
            false_positives=round(report.false_positives, 4),
            landmark_error=round(report.landmark_error, 4),
        ),
        provenance=DetectorProvenance(
            recipe=record.recipe.name,
            seed=record.recipe.seed,
            data_fingerprint=record.data_fingerprint,
            commit=record.commit,
        ),
    )
