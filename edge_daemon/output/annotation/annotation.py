"""What is drawn of a face."""

from dataclasses import dataclass

from edge_daemon.records import EMOTIONS, Box, FaceEmotion, FrameResult, Probabilities


@dataclass(frozen=True, eq=False)
class Annotation:
    """A face to mark."""

    box: Box
    probabilities: Probabilities | None
    """None where the face is not scored."""
    note: str = ""
    """What limits the result, such as `too small`."""
    track_id: int = 0
    """The same for one face in all frames of a video."""

    @property
    def text(self) -> str:
        """The emotion and its probability, or why there is none."""
        if self.probabilities is None:
            return self.note
        index = int(self.probabilities.argmax())
        return f"{EMOTIONS[index]} {100 * self.probabilities[index]:.0f} %"


def annotations_of(result: FrameResult) -> list[Annotation]:
    """The faces of a frame, from left to right."""
    faces = sorted(result.faces, key=lambda face: face.face.detection.box.centre)
    return [
        Annotation(face.face.detection.box, face.probabilities, _note(face), face.track_id)
        for face in faces
    ]


def _note(face: FaceEmotion) -> str:
    """Why a face is not scored, or that its emotion is uncertain."""
    if face.face.unscored is not None:
        return face.face.unscored.replace("_", " ")
    return "uncertain" if face.uncertain else ""
