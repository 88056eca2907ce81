"""Crops of the faces in photos, framed as the daemon crops faces for its models."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from edge_daemon._lib.text import encodable
from edge_daemon.analysis import StillFinder
from edge_daemon.records import Face, Image
from emotion_trainer.data.folders import Numbering, labelled_files, load_image, parts_of
from emotion_trainer.data.unreadable import Faults, Unreadable
from emotion_trainer.errors import DataError


@dataclass(frozen=True)
class Cropping:
    """The result of cropping.

    Attributes:
        crops: how many were written.
        faceless: the photos without a usable face, each with the reason.
        unreadable: the files that are no photos.
    """

    crops: int
    faceless: tuple[str, ...]
    unreadable: Unreadable

    def __str__(self) -> str:
        photos = self.crops + len(self.faceless)
        lines = [f"{self.crops} faces cropped from {photos} photos; {self.unreadable}"]
        lines += [f"- {fault}" for fault in (*self.faceless, *self.unreadable.faults)]
        return "\n".join(lines)


def crop_photos(
    photos: Path, crops: Path, find: StillFinder, numbering: Numbering | None = None
) -> Cropping:
    """Crop the largest face of each photo, into folders with the same names.

    Args:
        photos: a folder with the layout of `folders`.
        crops: the folder for the 48x48 grey images, laid out alike.
        find: finds the faces of a photo.
        numbering: the meaning of numbers as names of folders.

    Raises:
        DataError: `crops` is not empty, the photos have another layout, too many of them cannot
            be read, or none has a face.
    """
    if crops.exists() and any(crops.iterdir()):
        raise DataError(f"{crops}: is not empty; give another folder for the crops")
    cropper = _Cropper(photos, find, numbering)
    unfinished = crops.with_name(f"{crops.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    cropping = cropper.fill(unfinished)
    unfinished.replace(crops)
    return cropping


class _Cropper:
    def __init__(self, photos: Path, find: StillFinder, numbering: Numbering | None) -> None:
        self._photos = photos
        self._numbering = numbering
        self._find = find

    def fill(self, folder: Path) -> Cropping:
        crops, faceless, faults = 0, [], Faults(self._photos)
        files = [
            file.path
            for part in parts_of(self._photos)
            for file in labelled_files(part, self._numbering)
        ]
        # `disable=None`: unless on a terminal.
        for path in tqdm(files, desc=self._photos.name, unit=" photos", leave=False, disable=None):
            inside = path.relative_to(self._photos)
            place = encodable(str(inside))
            with faults.skipping():
                faces = self._find(load_image(path, place)).faces
                face = max(faces, key=_area, default=None)
                if face is None:
                    faceless.append(f"{place}: no face was found")
                elif face.unscored is not None:
                    faceless.append(f"{place}: its face is {face.unscored.replace('_', ' ')}")
                else:
                    _write(face.crop, folder / f"{inside}.png")
                    crops += 1
        unreadable = faults.settle(crops + len(faceless))
        if not crops:
            raise DataError(f"{self._photos}: no photo has a face that is fit to train on")
        return Cropping(crops, tuple(faceless), unreadable)


def _area(face: Face) -> float:
    return face.detection.box.width * face.detection.box.height


def _write(crop: Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", crop)[1].tobytes())
