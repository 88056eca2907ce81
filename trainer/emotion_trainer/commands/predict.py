"""`predict`: copies of images with the emotions of the faces in them."""

from argparse import Namespace
from pathlib import Path

from emotion_trainer.commands.arguments import Commands, add_detector_model


def add_commands(commands: Commands) -> None:
    """Add the command to the parser."""
    predict = commands.add_parser(
        "predict", help="write copies of images with boxes and emotions of the faces"
    )
    predict.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="images, or folders of images"
    )
    predict.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the copies"
    )
    predict.add_argument(
        "--bundle", type=Path, metavar="DIR", help="a model bundle (default: the daemon's)"
    )
    add_detector_model(predict)
    predict.set_defaults(command=_predict)


def _predict(options: Namespace) -> None:
    from emotion_trainer.annotation import FaceReader, annotate

    reader = FaceReader.load(options.bundle, options.detector_model)
    annotate(options.images, options.out, reader)
