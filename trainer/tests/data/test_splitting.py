import numpy as np
import pytest

from emotion_trainer.data import Dataset, Split
from emotion_trainer.data.splitting import stratified
from emotion_trainer.errors import DataError


def numbered(split: Split, faces: int) -> Split:
    """The first faces of a split, with their numbers for their places."""
    places = tuple(map(str, range(faces)))
    return Split(split.images[:faces], split.labels[:faces], split.votes[:faces], places)


def test_every_face_is_in_one_part_with_what_belongs_to_it(dataset: Dataset) -> None:
    split = numbered(dataset.training, 70)
    kept, held_back = stratified(split, "made up")
    places = [[int(place) for place in part.places] for part in (kept, held_back)]
    assert [len(part) for part in places] == [56, 14]
    assert sorted(places[0] + places[1]) == list(range(70))
    for part, rows in zip((kept, held_back), places, strict=True):
        assert rows == sorted(rows)
        np.testing.assert_array_equal(part.images, split.images[rows])
        np.testing.assert_array_equal(part.labels, split.labels[rows])
        np.testing.assert_array_equal(part.votes, split.votes[rows])


def test_emotions_keep_their_shares(dataset: Dataset) -> None:
    kept, held_back = stratified(numbered(dataset.training, 70), "made up")
    assert np.bincount(kept.labels).tolist() == [8] * 7
    assert np.bincount(held_back.labels).tolist() == [2] * 7


def test_stratified_is_the_same_every_time(dataset: Dataset) -> None:
    split = numbered(dataset.training, 70)
    assert stratified(split, "made up")[1].places == stratified(split, "made up")[1].places


@pytest.mark.parametrize("faces", [1, 8, 14])
def test_stratified_too_few_faces_are_refused(dataset: Dataset, faces: int) -> None:
    with pytest.raises(DataError, match=r"^made up: [^\n]+$"):
        stratified(numbered(dataset.training, faces), "made up")
