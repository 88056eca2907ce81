import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from special_files import UNREADABLE, UNREADABLE_IDS

from edge_daemon._lib.files import bundled_models, sha256_of
from edge_daemon.errors import BundleError
from edge_daemon.inference.bundle import FER2013_SHARES, read_bundle, write_bundle
from edge_daemon.records import EMOTIONS

Manifest = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled models, to be damaged."""
    return Path(shutil.copytree(bundled_models(), tmp_path / "bundle"))


def manifest_of(folder: Path) -> Manifest:
    return json.loads((folder / "bundle.json").read_text())


def first_member(folder: Path) -> Path:
    return folder / manifest_of(folder)["members"][0]["file"]


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as refused:
        read_bundle(folder)
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    assert str(folder) in message
    assert refused.value.exit_code == 1
    return message


def test_bundled_models_are_sound() -> None:
    bundle = read_bundle(bundled_models())
    assert bundle.labels == EMOTIONS
    assert bundle.members
    for member in bundle.members:
        assert sha256_of(bundled_models() / member.file) == member.sha256
        assert set(member.metrics.recall) == set(EMOTIONS)


def test_written_bundle_reads_back_as_the_same(folder: Path) -> None:
    bundle = read_bundle(folder)
    (folder / "bundle.json").unlink()
    write_bundle(bundle, folder)
    assert read_bundle(folder) == bundle


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_member_with_a_flipped_byte_is_refused_by_name(folder: Path, place: float) -> None:
    member = first_member(folder)
    content = bytearray(member.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    member.write_bytes(content)
    message = refusal(folder)
    assert member.name in message
    assert "sha256" in message


def test_member_cut_short_is_refused_by_name(folder: Path) -> None:
    member = first_member(folder)
    member.write_bytes(member.read_bytes()[:-1])
    assert member.name in refusal(folder)


def test_missing_member_is_refused_by_name(folder: Path) -> None:
    member = first_member(folder)
    member.unlink()
    assert member.name in refusal(folder)


@pytest.mark.parametrize("make", UNREADABLE, ids=UNREADABLE_IDS)
@pytest.mark.parametrize("name", ["bundle.json", "member"])
def test_bundle_with_special_file_is_refused(
    folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    file = first_member(folder) if name == "member" else folder / name
    file.unlink()
    make(file)
    assert refusal(folder).startswith(f"{file}: cannot be read: ")


@pytest.mark.parametrize("name", ["absent", "bundle.json"])
def test_bundle_without_manifest_names_the_setting(folder: Path, name: str) -> None:
    path = folder / name
    assert refusal(path).startswith(f"inference.bundle: no bundle.json in this folder (got {path}")


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[1, 2]", b'{"schema_version": ', b"\xff"])
def test_manifest_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "bundle.json").write_bytes(content)
    assert "bundle.json" in refusal(folder)


def test_missing_manifest_and_folder_are_refused(folder: Path) -> None:
    (folder / "bundle.json").unlink()
    assert "bundle.json" in refusal(folder)
    shutil.rmtree(folder)
    assert "bundle.json" in refusal(folder)


def test_adjustment_may_be_absent(folder: Path) -> None:
    manifest = manifest_of(folder)
    manifest["ensemble"].pop("adjustment", None)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert read_bundle(folder).ensemble.adjustment == {}


def test_adjustment_is_written_as_read(folder: Path) -> None:
    manifest = manifest_of(folder)
    manifest["ensemble"]["adjustment"] = {"fear": 0.3, "disgust": 0.5}
    manifest["ensemble"]["shares"] = dict.fromkeys(EMOTIONS, 0.1)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    write_bundle(read_bundle(folder), folder)
    assert manifest_of(folder) == manifest


def test_shares_absent_are_those_of_fer2013(folder: Path) -> None:
    manifest = manifest_of(folder)
    manifest["ensemble"].pop("shares", None)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert read_bundle(folder).ensemble.shares == FER2013_SHARES


def shares_incomplete(manifest: Manifest) -> None:
    manifest["ensemble"]["shares"] = {"happy": 1.0}


def labels_swapped(manifest: Manifest) -> None:
    manifest["labels"][0], manifest["labels"][1] = manifest["labels"][1], manifest["labels"][0]


def label_missing(manifest: Manifest) -> None:
    manifest["labels"].pop()


def newer_schema(manifest: Manifest) -> None:
    manifest["schema_version"] = 2


def no_members(manifest: Manifest) -> None:
    manifest["members"] = []


def other_shape(manifest: Manifest) -> None:
    manifest["members"][0]["input"]["shape"] = [64, 64, 1]


def other_type(manifest: Manifest) -> None:
    manifest["members"][0]["input"]["dtype"] = "float32"


def member_elsewhere(manifest: Manifest) -> None:
    manifest["members"][0]["file"] = "../other.tflite"


def weightless(manifest: Manifest) -> None:
    manifest["members"][0]["weight"] = 0


def no_checksum(manifest: Manifest) -> None:
    manifest["members"][0]["sha256"] = "0123"


def temperatures_missing(manifest: Manifest) -> None:
    del manifest["ensemble"]["temperatures"]


def frozen(manifest: Manifest) -> None:
    manifest["ensemble"]["temperatures"][0] = -1


def too_few_temperatures(manifest: Manifest) -> None:
    manifest["ensemble"]["temperatures"].pop()


def adjusted_label_unknown(manifest: Manifest) -> None:
    manifest["ensemble"]["adjustment"] = {"fear": 0.3, "furious": 0.1}


def adjusted_beyond_bounds(manifest: Manifest) -> None:
    manifest["ensemble"]["adjustment"] = {"fear": float("inf")}


def unknown_key(manifest: Manifest) -> None:
    manifest["labls"] = []


def dateless(manifest: Manifest) -> None:
    manifest["created"] = "yesterday"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (labels_swapped, "labels: must be angry, disgust"),
        (shares_incomplete, "ensemble.shares: must hold angry, disgust"),
        (label_missing, "labels: "),
        (newer_schema, "schema_version: must be 1"),
        (no_members, "members: "),
        (other_shape, "members.0.input.shape: must be [48, 48, 1]"),
        (other_type, "members.0.input.dtype: must be 'uint8'"),
        (member_elsewhere, "members.0.file: "),
        (weightless, "members.0.weight: must be greater than"),
        (no_checksum, "members.0.sha256: "),
        (temperatures_missing, "ensemble.temperatures: missing"),
        (frozen, "ensemble.temperatures.0: must be greater than"),
        (too_few_temperatures, "ensemble: must have a temperature for each number of members"),
        (adjusted_label_unknown, "ensemble.adjustment: must have labels as keys (got furious)"),
        (adjusted_beyond_bounds, "ensemble.adjustment.fear: must be a finite number"),
        (unknown_key, "labls: "),
        (dateless, "created: "),
    ],
)
def test_manifest_of_another_form_is_refused_by_key(
    folder: Path, spoil: Callable[[Manifest], None], named: str
) -> None:
    manifest = manifest_of(folder)
    spoil(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert f"bundle.json: {named}" in refusal(folder)


def test_bundle_with_faulty_member_reports_that_fault_only(folder: Path) -> None:
    manifest = manifest_of(folder)
    weightless(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert ";" not in refusal(folder)


def test_manifest_problems_are_reported_in_one_line(folder: Path) -> None:
    manifest = manifest_of(folder)
    labels_swapped(manifest)
    newer_schema(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    message = refusal(folder)
    assert "labels: " in message
    assert "schema_version: " in message
