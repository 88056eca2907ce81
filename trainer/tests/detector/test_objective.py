from dataclasses import replace

import numpy as np
import pytest
from detector.material import faces_at

torch = pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)

from edge_daemon.detection.decoding import STRIDES, decode  # noqa: E402
from emotion_trainer.detector.faces import Faces, concatenate_faces, faces_from  # noqa: E402
from emotion_trainer.detector.objective import detection_losses  # noqa: E402

torch.set_num_threads(1)  # threads that wait for each other are slow on a busy machine

SIDE = 96
CELLS = sum((SIDE // stride) ** 2 for stride in STRIDES)


def minimised(faces: Faces, steps: int = 250) -> torch.Tensor:
    """Outputs that minimise the loss for these faces, without a network."""
    outputs = torch.zeros(1, CELLS, 15)
    outputs[..., 0] = -4.0
    outputs.requires_grad_()
    optimiser = torch.optim.Adam([outputs], 0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        detection_losses(outputs, [faces], SIDE).total.backward()
        optimiser.step()
    return outputs.detach()


def decoded(outputs: torch.Tensor) -> list:
    scores, geometry, cells = [], [], outputs[0].numpy()
    for stride in STRIDES:
        side = SIDE // stride
        level, cells = cells[: side**2], cells[side**2 :]
        scores.append(level[:, 0].reshape(side, side))
        geometry.append(level[:, 1:].reshape(side, side, -1))
    return decode(scores, geometry, 0.5)


@pytest.mark.parametrize("side", [9.0, 20.0, 60.0])
def test_objective_minimum_decodes_to_the_face(side: float) -> None:
    faces = faces_at((30.0, 25.0, side, 1.2 * side))
    (found,) = decoded(minimised(faces))
    np.testing.assert_allclose(found.box, faces.boxes[0], atol=0.1 * side)
    np.testing.assert_allclose(found.landmarks, faces.landmarks[0], atol=0.1 * side)
    assert found.score > 0.8


def test_objective_with_two_faces_finds_both() -> None:
    faces = faces_at((8.0, 10.0, 14.0, 16.0), (40.0, 30.0, 40.0, 46.0))
    found = sorted(tuple(detection.box) for detection in decoded(minimised(faces)))
    np.testing.assert_allclose(found, sorted(map(tuple, faces.boxes)), atol=4)


def test_objective_without_a_face_lowers_scores() -> None:
    assert minimised(concatenate_faces([]), steps=30)[..., 0].max() < -4.0


def test_objective_in_an_ignored_face_has_no_score_gradient() -> None:
    plain = faces_at((32.0, 32.0, 32.0, 32.0))
    ignored = replace(plain, doubtful=np.array([True]))
    outputs = torch.zeros(1, CELLS, 15, requires_grad=True)
    detection_losses(outputs, [ignored], SIDE).total.backward()
    gradient = outputs.grad[0, : (SIDE // 8) ** 2, 0].reshape(SIDE // 8, SIDE // 8)
    assert (gradient[4:8, 4:8] == 0).all()
    assert (gradient[:3] > 0).all()


def test_objective_with_unknown_landmarks_leaves_them_free() -> None:
    faces = faces_from(np.array([[32, 32, 32, 32]], np.float32))
    outputs = torch.zeros(1, CELLS, 15, requires_grad=True)
    losses = detection_losses(outputs, [faces], SIDE)
    losses.total.backward()
    assert losses.landmarks == 0
    assert (outputs.grad[..., 5:] == 0).all()
    assert torch.isfinite(outputs.grad).all()
