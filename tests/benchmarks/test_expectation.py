from benchmarks.expectation import expectation
from edge_daemon._lib.resources import bundled_models
from edge_daemon.inference.bundle import read_bundle


def test_all_members_cost_what_the_published_networks_would() -> None:
    members = read_bundle(bundled_models()).members
    mmac = sum(member.mmac for member in members)
    *_, line = expectation().splitlines()
    assert line.startswith(f"| all {len(members)} members, a face | {mmac:.0f} | ")
    least, most = 24 / 569 * mmac, 17 / 300 * mmac
    assert f"| {least:.1f} to {most:.1f} ms |" in line
    assert f"| {4 * least:.1f} to {4 * most:.1f} ms |" in line


def test_detector_is_counted_for_the_picture_that_it_sees() -> None:
    detector = expectation().splitlines()[2]
    # 640x480 becomes 480x360, padded to 480x384: five times 192x192.
    assert "| 144 |" in detector
