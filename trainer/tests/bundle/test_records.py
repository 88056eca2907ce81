from pathlib import Path

import pytest

from edge_daemon.inference.bundle import read_bundle
from emotion_trainer.bundle.records import read_bundling, read_records
from emotion_trainer.training.soft_labels import SoftLabels

REPOSITORY = Path(__file__).parents[3]


def test_committed_records_describe_the_bundled_models() -> None:
    bundle, records = read_bundle(REPOSITORY / "models"), read_records(REPOSITORY / "models")
    assert records.keys() == {member.file for member in bundle.members}
    for member in bundle.members:
        assert records[member.file].run.recipe.name == member.provenance.recipe


def test_committed_bundling_names_recipes_that_exist() -> None:
    bundling = read_bundling(REPOSITORY / "models")
    assert bundling is not None
    assert all((REPOSITORY / "trainer" / recipe).is_file() for recipe in bundling.recipes)


@pytest.mark.parametrize("name", ["bundle_2026_11", "bundle_2026_11_30", "hse96"])
def test_committed_soft_labels_name_their_teachers(name: str) -> None:
    labels = SoftLabels.load(REPOSITORY / "trainer" / "soft_labels" / f"{name}.npz")
    assert labels.header.teachers
