from benchmarks.expectation import expectation
from edge_daemon._lib.files import bundled_detector, bundled_models
from edge_daemon.detection.bundled import read_manifest
from edge_daemon.inference.bundle import read_bundle


def test_expectation_of_all_models_uses_the_published_rates() -> None:
    members = read_bundle(bundled_models()).members
    mmac = sum(member.mmac for member in members)
    *_, line = expectation().splitlines()
    assert line.startswith(f"| all {len(members)} members, a face | {mmac:.0f} | ")
    least, most = 24 / 569 * mmac, 17 / 300 * mmac
    assert f"| {least:.1f} to {most:.1f} ms |" in line
    assert f"| {4 * least:.1f} to {4 * most:.1f} ms |" in line


def test_expectation_of_the_detector_is_for_640x480() -> None:
    detector = expectation().splitlines()[2]
    mmac = read_manifest(bundled_detector()).search.mmac * 640 * 480 / 192**2
    assert f"| {mmac:.0f} |" in detector
