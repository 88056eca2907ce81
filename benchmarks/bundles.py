"""Bundles of the first members of another."""

from pathlib import Path

from edge_daemon.inference.bundle import read_bundle, write_bundle


def first_members(folder: Path, count: int, place: Path) -> Path:
    """A bundle of so many members in the folder `place`, which is made; the files are linked."""
    whole = read_bundle(folder)
    place.mkdir()
    members = whole.members[:count]
    for file in {member.file for member in members}:
        (place / file).symlink_to((folder / file).resolve())
    ensemble = whole.ensemble.model_copy(
        update={"temperatures": whole.ensemble.temperatures[:count]}
    )
    write_bundle(whole.model_copy(update={"members": members, "ensemble": ensemble}), place)
    return place
