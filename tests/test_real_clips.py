"""All steps together on real video, if it is available."""

from collections import Counter
from pathlib import Path

import pytest
from conftest import Program, material

from edge_daemon.schema import FacesMessage

PEOPLE = {
    "face-demographics-walking-and-pause.mp4": (41, 3),
    "head-pose-face-detection-female-and-male.mp4": (56, 2),
    "head-pose-face-detection-male.mp4": (62, 1),
}
"""Frames of each clip, and the people in it."""


@pytest.fixture(params=PEOPLE)
def clip(request: pytest.FixtureRequest, clips: list[Path]) -> Path:
    return next(path for path in clips if path.name == request.param)


def test_bundled_detector_follows_all_faces_and_no_others(clip: Path, program: Program) -> None:
    frames, people = PEOPLE[clip.name]
    done = program("--source", clip, "--sink", "jsonl")
    assert done.returncode == 0
    messages = [FacesMessage.model_validate_json(line) for line in done.stdout.splitlines()]
    assert len(messages) == frames + 1  # in the last one, all have left
    ids = Counter(face.track_id for message in messages for face in message.faces)
    assert set(ids) == set(range(1, people + 1))
    assert ids.total() >= 0.9 * people * frames


def test_yunet_finds_all_faces_and_keeps_their_tracks(
    clip: Path, yunet_model: Path, program: Program
) -> None:
    frames, people = PEOPLE[clip.name]
    done = program("--source", clip, "--sink", "jsonl", "--detector-model", yunet_model)
    assert done.returncode == 0
    messages = [FacesMessage.model_validate_json(line) for line in done.stdout.splitlines()]
    last = messages.pop()
    assert (last.faces, {event.kind for event in last.events}) == ((), {"left"})
    assert [message.frame for message in messages] == list(range(frames))
    assert Counter(len(message.faces) for message in messages) == {people: frames}
    ids = Counter(face.track_id for message in messages for face in message.faces)
    assert ids == dict.fromkeys(range(1, people + 1), frames)
    appeared = [
        event for message in messages for event in message.events if event.kind == "appeared"
    ]
    assert len(appeared) == people


def test_haar_misses_faces_but_keeps_their_tracks(clips: list[Path], program: Program) -> None:
    walking = next(path for path in clips if "walking" in path.name)
    done = program("--source", walking, "--sink", "jsonl", "--detector", "haar")
    messages = [FacesMessage.model_validate_json(line) for line in done.stdout.splitlines()]
    assert {face.track_id for message in messages for face in message.faces} == {1, 2, 3}


@pytest.mark.parametrize(
    ("case", "settings", "frames"),
    [
        ("interlaced_h264.mp4", (), 50),
        ("rpicam_raw.h264", (), 62),
        ("lossless_cut.mp4", (), 45),
        ("upside_down.mp4", ("--set", "capture.rotation=180"), 38),
    ],
)
def test_recorded_case_has_a_happy_face_in_every_frame(
    case: str, settings: tuple[str, ...], frames: int, program: Program
) -> None:
    done = program("--source", material(f"cases/{case}"), "--sink", "jsonl", *settings)
    assert done.returncode == 0
    messages = [FacesMessage.model_validate_json(line) for line in done.stdout.splitlines()]
    emotions = [face.emotion for message in messages for face in message.faces]
    assert emotions == ["happy"] * frames
    positions = [message.position for message in messages if message.faces]
    assert positions == sorted(set(positions))
    kinds = [event.kind for message in messages for event in message.events]
    assert kinds.count("appeared") == 1
