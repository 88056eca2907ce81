import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_daemon._lib.files import bundled_models, sha256_of
from emotion_trainer.data import Dataset
from emotion_trainer.models.families import ModelSettings, backbone, imagenet
from emotion_trainer.recipe import Distillation, Recipe
from emotion_trainer.training.distillation import soft_labels_for
from emotion_trainer.training.origins import OWN_LICENCE, UNKNOWN_LICENCE, origins_of
from emotion_trainer.training.provenance import record_of
from emotion_trainer.training.runs import Run
from emotion_trainer.training.soft_labels import SoftLabels, Teacher

HSE96 = Teacher(name="hse96", sha256="", licence="MIT; for research", provenance="VGGFace2")
LICENCE = "public domain; from the web"


def imagenet_settings(weights: Path) -> imagenet.Settings:
    return imagenet.Settings(
        family="imagenet", application="VGG16", weights=weights, licence=LICENCE
    )


def backbone_settings(weights: Path) -> backbone.Settings:
    return backbone.Settings(family="backbone", weights=weights, licence=LICENCE)


def begin(
    folder: Path, recipe: Recipe, dataset: Dataset, start_origins: tuple[Teacher, ...] = ()
) -> Run:
    """A run with weights that no network could load, which origins do not need."""
    run = Run(folder)
    run.begin(record_of(recipe, dataset, start_origins=start_origins))
    run.best.write_bytes(recipe.name.encode())
    return run


@pytest.mark.parametrize("settings", [imagenet_settings, backbone_settings])
def test_origins_of_run_list_its_initial_weights_with_licence(
    settings: type[ModelSettings], tmp_path: Path, recipe: Recipe, dataset: Dataset
) -> None:
    weights = tmp_path / "weights.h5"
    weights.write_bytes(b"weights")
    changes = {"model": settings(weights), "bundled": False}
    run = begin(tmp_path / "run", recipe.model_copy(update=changes), dataset)
    itself, initial = origins_of(run.folder)
    assert (itself.name, itself.sha256, itself.licence) == ("tiny", sha256_of(run.best), LICENCE)
    assert (initial.name, initial.sha256, initial.licence) == (
        "weights.h5",
        sha256_of(weights),
        LICENCE,
    )


def test_soft_labels_list_the_teachers_of_their_teachers(
    place: Path, tmp_path: Path, dataset: Dataset
) -> None:
    run = Run(Path(shutil.copytree(place / "run", tmp_path / "run")))
    rows = np.full((len(dataset.training), 7), -np.log(7.0))
    SoftLabels.of(dataset, (HSE96,), rows, rows[:0]).save(run.soft_labels)
    earlier = Teacher(name="earlier", sha256="ab", licence=LICENCE, provenance="commit a")
    run.checkpoint.unlink()
    run.begin(run.record().model_copy(update={"start_origins": (earlier, HSE96)}))
    settings = Distillation(teachers=(run.folder,))
    labels = soft_labels_for(dataset, settings, tmp_path / "kept.npz")
    assert [one.name for one in labels.header.teachers] == ["tiny", "hse96", "earlier"]
    assert labels.header.teachers[0].licence == OWN_LICENCE
    assert SoftLabels.load(tmp_path / "kept.npz").header == labels.header


def test_origins_of_bundle_list_those_of_its_members() -> None:
    folder = bundled_models()
    bundle, *sources = origins_of(folder)
    assert bundle.licence == OWN_LICENCE
    found = {one.name: one for one in sources}
    assert found["dlib.npz"].licence.startswith("public domain")
    assert found["hse96"].licence.startswith("MIT")

    member, *of_member = origins_of(folder / "dlib96_int8.tflite")
    assert (member.name, member.licence) == ("dlib96", found["dlib.npz"].licence)
    assert of_member == sources
    assert len(origins_of(folder / "resnet_s_int8.tflite")) == 1


def test_origins_of_lone_file_have_no_licence(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"model")
    (origin,) = origins_of(tmp_path / "model.keras")
    assert (origin.name, origin.licence) == ("model.keras", UNKNOWN_LICENCE)
