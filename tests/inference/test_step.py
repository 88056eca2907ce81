import numpy as np
import pytest
from builders import face, frame
from conftest import FakeClock

from edge_daemon import EmotionEnsemble
from edge_daemon.config.settings import SheddingSettings
from edge_daemon.inference.step import EmotionRecognizer, TimeBudget
from edge_daemon.records import TrackedFace, TrackedFaces, Unscored


@pytest.fixture(scope="module")
def ensemble() -> EmotionEnsemble:
    return EmotionEnsemble.load()


TRACKED = TrackedFaces(
    frame(),
    (
        TrackedFace(1, face()),
        TrackedFace(2, face(unscored=Unscored.TOO_SMALL)),
        TrackedFace(3, face()),
    ),
    frozenset({1, 2, 3, 4}),
)


def test_recognizer_uses_all_members_for_scorable_faces(
    ensemble: EmotionEnsemble,
) -> None:
    result = EmotionRecognizer(ensemble)(TRACKED)
    all_members = len(ensemble)
    assert [item.members for item in result.faces] == [all_members, 0, all_members]
    assert [item.raw is None for item in result.faces] == [False, True, False]
    assert (result.frame, result.live_tracks) == (TRACKED.frame, TRACKED.live_tracks)


def test_recognizer_uses_as_many_members_as_the_budget_allows(
    ensemble: EmotionEnsemble, clock: FakeClock
) -> None:
    budget = TimeBudget([1.0, 1.0], SheddingSettings(), 1.0, clock)
    budget.set_max_members(1)
    result = EmotionRecognizer(ensemble, budget)(TRACKED)
    assert [item.members for item in result.faces] == [1, 0, 1]
    crop = TRACKED.faces[0].face.crop
    np.testing.assert_allclose(
        result.faces[0].raw, ensemble.predict(crop[None], members=1)[0], atol=1e-5
    )


def test_recognizer_slow_inference_reduces_the_members(
    ensemble: EmotionEnsemble, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = TimeBudget([1.0, 1.0], SheddingSettings(), 0.5, clock)
    recognizer = EmotionRecognizer(ensemble, budget)
    predict = ensemble.predict

    def slowly(faces: np.ndarray, members: int | None) -> np.ndarray:
        clock.seconds += 0.2 * len(faces) * (members or 2)
        return predict(faces, members)

    monkeypatch.setattr(ensemble, "predict", slowly)
    members = [recognizer(TRACKED).faces[0].members for _ in range(60)]
    assert members[0] == 2
    assert members[-1] == 1
    assert members == sorted(members, reverse=True)


def test_recognizer_frame_without_faces_gives_no_faces(
    ensemble: EmotionEnsemble, clock: FakeClock
) -> None:
    empty = TrackedFaces(frame(), (), frozenset())
    budget = TimeBudget([1.0, 1.0], SheddingSettings(), 0.5, clock)
    assert EmotionRecognizer(ensemble, budget)(empty).faces == ()
