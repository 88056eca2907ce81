"""`track` and `report`: runs compared in MLflow, or on one HTML page."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from emotion_trainer.commands.arguments import Commands, add_dataset, add_output_file
from emotion_trainer.commands.opening import open_dataset_of

if TYPE_CHECKING:
    from emotion_trainer.training.runs import Run


def add_commands(commands: Commands) -> None:
    """Add the commands to the parser."""
    track = commands.add_parser("track", help="log finished runs, as far as MLflow lacks them")
    _add_runs(track)
    track.set_defaults(command=_track, needs_keras=True)
    report = commands.add_parser("report", help="write an HTML page that compares runs")
    add_output_file(report, "the page, HTML")
    _add_runs(report)
    report.set_defaults(command=_report, needs_keras=True)


def _add_runs(command: ArgumentParser) -> None:
    command.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folders filled by train, such as work/*"
    )
    add_dataset(command, required=False)


def _track(options: Namespace) -> None:
    from emotion_trainer.tracking.summary import runs_among
    from emotion_trainer.tracking.tracker import track

    runs = runs_among(options.runs)
    _store_predictions(runs, options)
    for run in runs:
        print(f"{run.folder}: {track(run) or 'tracking is switched off'}", flush=True)


def _report(options: Namespace) -> None:
    from emotion_trainer.tracking.report import report
    from emotion_trainer.tracking.summary import runs_among

    runs = runs_among(options.runs)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    _store_predictions(runs, options)
    options.out.write_text(report(runs), encoding="utf-8")
    print(f"{options.out}: runs compared: {len(runs)}")


def _store_predictions(runs: "list[Run]", options: Namespace) -> None:
    from emotion_trainer.evaluation.predictions import store_predictions

    if options.data is None:
        return
    dataset = open_dataset_of(options, [run.folder for run in runs])
    for run in runs:
        store_predictions(run, dataset)
