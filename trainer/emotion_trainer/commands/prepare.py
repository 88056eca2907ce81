"""`prepare`: a data set described, or cropped from photos, before a training."""

from argparse import Namespace

from emotion_trainer.commands.arguments import (
    Commands,
    add_dataset,
    add_detector_model,
    output_file,
    output_folder,
)
from emotion_trainer.commands.opening import numbering_of, open_dataset_of


def add_commands(commands: Commands) -> None:
    """Add the command to the parser."""
    prepare = commands.add_parser("prepare", help="describe a data set, or crop one from photos")
    prepare.add_argument(
        "--duplicates",
        type=output_file,
        metavar="FILE",
        help="list the identical faces as CSV",
    )
    prepare.add_argument(
        "--crop-to",
        type=output_folder,
        metavar="DIR",
        help="crop the largest face of each photo in PATH to this folder, and describe that",
    )
    add_detector_model(prepare)
    add_dataset(prepare)
    prepare.set_defaults(command=_prepare)


def _prepare(options: Namespace) -> None:
    from emotion_trainer.data.description import describe
    from emotion_trainer.data.duplicates import find_duplicates, write_duplicates
    from emotion_trainer.data.photos import crop_photos
    from emotion_trainer.data.stills import still_finder

    if options.duplicates:
        options.duplicates.parent.mkdir(parents=True, exist_ok=True)
    if options.crop_to:
        find = still_finder(options.detector_model)
        cropping = crop_photos(options.data, options.crop_to, find, numbering_of(options))
        print(cropping, end="\n\n")
        options.data = options.crop_to
    dataset = open_dataset_of(options)
    duplicates = find_duplicates(dataset)
    print(describe(dataset, duplicates))
    if options.duplicates:
        write_duplicates(duplicates, dataset, options.duplicates)
