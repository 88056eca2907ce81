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


def test_all_members_are_asked_about_the_faces_that_can_be_scored(
    ensemble: EmotionEnsemble,
) -> None:
    result = EmotionRecognizer(ensemble)(TRACKED)
    everybody = len(ensemble)
    assert [item.members for item in result.faces] == [everybody, 0, everybody]
    assert [item.raw is None for item in result.faces] == [False, True, False]
    assert (result.frame, result.remembered) == (TRACKED.frame, TRACKED.remembered)


def test_as_many_members_are_asked_as_the_budget_says(
    ensemble: EmotionEnsemble, clock: FakeClock
) -> None:
    budget = TimeBudget([1.0, 1.0], SheddingSettings(), 1.0, clock)
    budget.limit(1)
    result = EmotionRecognizer(ensemble, budget)(TRACKED)
    assert [item.members for item in result.faces] == [1, 0, 1]
    crop = TRACKED.faces[0].face.crop
    np.testing.assert_allclose(
        result.faces[0].raw, ensemble.predict(crop[None], members=1)[0], atol=1e-5
    )


def test_budget_learns_from_the_time_that_answers_take(
    ensemble: EmotionEnsemble, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = TimeBudget([1.0, 1.0], SheddingSettings(), 0.5, clock)
    recognizer = EmotionRecognizer(ensemble, budget)
    predict = ensemble.predict

    def slowly(faces: np.ndarray, members: int | None) -> np.ndarray:
        clock.seconds += 0.2 * len(faces) * (members or 2)
        return predict(faces, members)

    monkeypatch.setattr(ensemble, "predict", slowly)
    asked = [recognizer(TRACKED).faces[0].members for _ in range(60)]
    assert asked[0] == 2
    assert asked[-1] == 1
    assert asked == sorted(asked, reverse=True)


def test_frame_without_a_face_asks_nobody(ensemble: EmotionEnsemble, clock: FakeClock) -> None:
    nobody = TrackedFaces(frame(), (), frozenset())
    budget = TimeBudget([1.0, 1.0], SheddingSettings(), 0.5, clock)
    assert EmotionRecognizer(ensemble, budget)(nobody).faces == ()
