"""Synthetic photos and crops: a bright oval with two dark eyes stands for a face."""

import json
from pathlib import Path

import cv2
import numpy as np

from edge_daemon.records import Image
from emotion_trainer.detector.crops import Crops
from emotion_trainer.detector.faces import Faces, LabelledImage, faces_from

LANDMARKS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
"""In parts of the box."""


def landmarks_in(box: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(box[:2], np.float32) + LANDMARKS * np.array(box[2:], np.float32)


def faces_at(*boxes: tuple[float, float, float, float]) -> Faces:
    return faces_from(np.array(boxes, np.float32), np.stack([landmarks_in(box) for box in boxes]))


def draw(image: Image, box: tuple[float, float, float, float]) -> None:
    x, y, w, h = box
    middle = (round(x + w / 2), round(y + h / 2))
    cv2.ellipse(image, middle, (round(w / 2), round(h / 2)), 0, 0, 360, 220, -1)
    for place in landmarks_in(box)[:2]:
        cv2.circle(image, tuple(int(v) for v in place), max(1, round(w / 10)), 20, -1)


def photo(seed: int, size: tuple[int, int] = (240, 180)) -> LabelledImage:
    """Noise with one face."""
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 130, (size[1], size[0]), dtype=np.uint8)
    side = rng.uniform(30, 60)
    box = (rng.uniform(20, 150), rng.uniform(10, 90), side, 1.2 * side)
    draw(image, box)
    return LabelledImage(image, faces_at(box))


def crops(count: int = 40) -> Crops:
    box = (6.0, 2.0, 36.0, 44.0)
    images = np.random.default_rng(9).integers(60, 130, (count, 48, 48), dtype=np.uint8)
    for image in images:
        draw(image, box)
    boxes = np.tile(np.array(box, np.float32), (count, 1))
    return Crops(images, boxes, np.tile(landmarks_in(box), (count, 1, 1)))


def write_photos(folder: Path, count: int = 60) -> None:
    """Photos with `labels.json`; each has an ignored box in its lower right corner."""
    folder.mkdir(exist_ok=True)
    labels = []
    for number in range(count):
        made = photo(number)
        name = f"photo_{number:03}.png"
        cv2.imwrite(str(folder / name), made.image)
        height, width = made.image.shape
        faces = [
            {"box": box.tolist(), "landmarks": marks.ravel().tolist(), "score": 0.9}
            for box, marks in zip(made.faces.boxes, made.faces.landmarks, strict=True)
        ]
        labels.append({"file": name, "width": width, "height": height, "faces": faces})
        labels[-1]["ignore"] = [[220.0, 160.0, 15.0, 18.0]]
    (folder / "labels.json").write_text(json.dumps(labels))
