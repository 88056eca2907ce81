"""The command line.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration. An error is one line on standard
error; `--debug` adds the traceback.
"""

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from edge_daemon import __version__
from edge_daemon._lib.text import masked, printable, shortened
from edge_daemon.config.loading import load_settings, settings_file
from edge_daemon.config.settings import KeyPath, Settings
from edge_daemon.errors import EdgeDaemonError, SettingsError, in_one_line
from edge_daemon.monitoring.journal import is_standard_error, journal_handler

PROGRAM: Final = "edge-daemon"
COMMANDS: Final = ("run", "check", "bench", "watch", "models", "homeassistant", "config")

METRICS_ADDRESS: Final = "127.0.0.1:9469"
PREVIEW_ADDRESS: Final = "127.0.0.1:8469"

WARMUP: Final = 10
"""Frames: enough to have all interpreters built for usual numbers of faces."""

MOST_PIXELS: Final = 8192 * 8192
"""Of a picture in a file; it takes 200 MB."""

LONGEST_LINE: Final = 800
"""Characters of an error."""

ERROR_MARK: Final = "<3>"
"""Makes a line an error to the journal (sd-daemon(3))."""

CONFIG_VARIABLE: Final = "EDGE_DAEMON_CONFIG"

FLAGS: Final[dict[str, KeyPath]] = {
    "source": ("source",),
    "sink": ("sink",),
    "detector": ("detection", "detector"),
    "detector_model": ("detection", "model"),
    "bundle": ("inference", "bundle"),
    "threads": ("inference", "threads"),
    "metrics": ("metrics", "listen"),
    "preview": ("preview", "listen"),
    "log_level": ("log_level",),
    "host": ("mqtt", "host"),
    "port": ("mqtt", "port"),
}
"""Flags that have a name of their own, and the settings they set."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error here."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{masked(message)}; see '{self.prog} --help'")


def entry_point() -> NoReturn:
    """The program: run the command line's command and end the process."""
    code = main()
    if threading.active_count() > 1:
        # A thread hung in a driver would run on through an interpreter that is being taken down.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(_with_command(words))
        command: Callable[[argparse.Namespace], int] = options.command
        if command is not _run:
            _be_interruptible()
        return command(options)
    except SettingsError as error:
        _tell(*error.problems, debug="--debug" in words)
        return error.exit_code
    except EdgeDaemonError as error:
        _tell(str(error), debug="--debug" in words)
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    except Exception as error:  # noqa: BLE001  # a bug of ours, told as shortly as any other error
        _tell(f"{in_one_line(error)}; --debug shows where", debug="--debug" in words)
        return 1


def _be_interruptible() -> None:
    """Signals do what they usually do: a command that is not a daemon may have things to undo."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _tell(*problems: str, debug: bool) -> None:
    """One line a problem, on standard error."""
    if debug:
        traceback.print_exc()
    mark = ERROR_MARK if is_standard_error() else ""
    for problem in problems:
        # Names of files and the like stand in it as they are.
        line = shortened(printable(problem.strip()), LONGEST_LINE)
        print(f"{mark}{PROGRAM}: {line}", file=sys.stderr)


def _with_command(words: list[str]) -> list[str]:
    """`run` goes without saying."""
    named = bool(words) and (words[0] in COMMANDS or words[0] in ("-h", "--help", "--version"))
    return words if named else ["run", *words]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description=sys.modules["edge_daemon"].__doc__)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = _common_options()
    run = commands.add_parser("run", parents=[common], help="run the pipeline (the default)")
    run.add_argument(
        "source", nargs="?", default=argparse.SUPPRESS, metavar="SOURCE", help="same as --source"
    )
    _add_output_options(run)
    run.set_defaults(command=_run)
    check = commands.add_parser(
        "check", parents=[common], help="say whether all that a run needs is there"
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(command=_check)
    bench = commands.add_parser(
        "bench", parents=[common], help="measure how fast the pipeline is on a video"
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    bench.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="how many to measure, the source being repeated; else one round of it",
    )
    bench.add_argument(
        "--warmup", type=int, default=WARMUP, metavar="N", help="how many to let pass before"
    )
    bench.set_defaults(command=_bench)
    watch = commands.add_parser(
        "watch", parents=[_settings_options()], help="show what devices publish, as a live table"
    )
    watch.add_argument("devices", nargs="*", metavar="DEVICE", help="only these; else all")
    watch.add_argument("--host", help="the broker's name or address (mqtt.host)")
    watch.add_argument("--port", help="its port (mqtt.port)")
    watch.add_argument("--json", action="store_true", help="print messages as lines of JSON")
    watch.set_defaults(command=_watch)
    config = commands.add_parser(
        "config", parents=[common], help="print the settings in force, or an example file"
    )
    form = config.add_mutually_exclusive_group()
    form.add_argument("--example", action="store_true", help="print a commented example file")
    form.add_argument("--markdown", action="store_true", help="print the reference of all settings")
    config.set_defaults(command=_config)
    models = commands.add_parser(
        "models", parents=[common], help="list the model bundle, or fetch a face detector"
    )
    models.add_argument("action", nargs="?", choices=["list", "fetch"], default="list")
    models.add_argument("wanted", nargs="?", choices=["yunet"], help="what to fetch")
    models.add_argument("--url", help="fetch it from here instead (its checksum stays the same)")
    models.set_defaults(command=_models)
    homeassistant = commands.add_parser(
        "homeassistant", parents=[_settings_options()], help="take the device out of Home Assistant"
    )
    homeassistant.add_argument("action", choices=["remove"])
    homeassistant.set_defaults(command=_homeassistant)
    return parser


def _add_output_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--output",
        action="append",
        default=[],
        type=Path,
        metavar="FILE|FOLDER",
        help="write a table (.csv, .parquet), or an annotated copy of the source (.mp4, an image, "
        "or a folder of images); repeatable",
    )
    run.add_argument(
        "--summary",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="write a summary (.html, or its chart as .png); repeatable",
    )
    run.add_argument(
        "--summary-thumbnails", action="store_true", help="show each face in the summary"
    )


def _common_options() -> _Parser:
    common = _Parser(add_help=False, parents=[_settings_options()])
    common.add_argument("--source", metavar="SPEC", help="camera, stream, video, picture or folder")
    common.add_argument("--sink", metavar="mqtt|jsonl|none", help="where results go")
    common.add_argument("--detector", metavar="auto|bundled|haar|yunet", help="what finds faces")
    common.add_argument("--detector-model", metavar="FILE", help="the detector's own model file")
    common.add_argument("--bundle", metavar="FOLDER", help="another model bundle")
    common.add_argument("--threads", metavar="N", help="threads of the models and the detector")
    common.add_argument(
        "--metrics",
        nargs="?",
        const=METRICS_ADDRESS,
        metavar="ADDRESS",
        help=f"serve metrics for Prometheus (at {METRICS_ADDRESS})",
    )
    common.add_argument(
        "--preview",
        nargs="?",
        const=PREVIEW_ADDRESS,
        metavar="ADDRESS",
        help=f"serve a page to watch in a browser (at {PREVIEW_ADDRESS})",
    )
    common.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    return common


def _settings_options() -> _Parser:
    """Where settings come from: for commands that run no pipeline."""
    options = _Parser(add_help=False)
    options.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    options.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting, such as mqtt.host=broker.local",
    )
    options.add_argument("--debug", action="store_true", help="show tracebacks")
    return options


def _settings(options: argparse.Namespace) -> Settings:
    environment = {key: value for key, value in os.environ.items() if key != CONFIG_VARIABLE}
    return load_settings(_named_file(options), environment, _said(options))


def _named_file(options: argparse.Namespace) -> Path | None:
    named: Path | None = options.config
    variable = os.environ.get(CONFIG_VARIABLE)
    return named or (Path(variable) if variable else None)


def _said(options: argparse.Namespace) -> dict[KeyPath, object]:
    """The settings that the command line names."""
    given = {path: getattr(options, name, None) for name, path in FLAGS.items()}
    flags = {path: value for path, value in given.items() if value is not None}
    return _output_defaults(options) | flags | _assignments(options.set)


def _output_defaults(options: argparse.Namespace) -> dict[KeyPath, object]:
    """Settings for a run that writes files: no broker, and no repetition."""
    if not (getattr(options, "output", None) or getattr(options, "summary", None)):
        return {}
    return {("sink",): "none", ("capture", "loop"): False}


def _assignments(words: Sequence[str]) -> dict[KeyPath, object]:
    assignments: dict[KeyPath, object] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise SettingsError(
                f"--set {masked(word)}: must be KEY=VALUE, such as mqtt.host=broker.local"
            )
        assignments[tuple(key.split("."))] = value
    return assignments


def _run(options: argparse.Namespace) -> int:
    settings = _settings(options)
    _tame_libraries()
    from edge_daemon import daemon  # imports OpenCV, which reads its log level at import
    from edge_daemon._lib.logging import configure_logging
    from edge_daemon.output.options import OutputOptions

    configure_logging(settings.log_level, journal_handler())
    outputs = OutputOptions(
        tuple(options.output), tuple(options.summary), has_thumbnails=options.summary_thumbnails
    )
    daemon.run(settings, lambda: _settings(options), outputs)
    return 0


def _check(options: argparse.Namespace) -> int:
    _tame_libraries()
    from edge_daemon._lib.logging import configure_logging
    from edge_daemon.commands.check import command

    configure_logging("error")
    try:
        settings, file = _settings(options), settings_file(_named_file(options))
        fine = command.run(settings, file, as_json=options.json)
    except SettingsError as error:
        fine = command.refuse(error.problems, as_json=options.json)
    return 0 if fine else 1


def _bench(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if options.warmup < 0 or (options.frames is not None and options.frames < 1):
        raise SettingsError("bench: --frames must be 1 or more, and --warmup 0 or more")
    _tame_libraries()
    from edge_daemon import daemon
    from edge_daemon._lib.logging import configure_logging
    from edge_daemon.commands.bench.command import measure

    configure_logging("warning")
    report = measure(settings, daemon.build_pipeline, options.frames, options.warmup)
    print(report.as_json() if options.json else report.as_text())
    return 0


def _watch(options: argparse.Namespace) -> int:
    settings = _settings(options)
    _tame_libraries()
    from edge_daemon.commands.watch import command

    command.run(settings, options.devices, as_json=options.json)
    return 0


def _config(options: argparse.Namespace) -> int:
    from edge_daemon.config import text

    if options.example:
        said = _said(options)
        # Of this command line only: the file is to be the same wherever it is printed.
        settings = load_settings(Path(os.devnull), {}, said)
        print(text.example(settings, said), end="")
    elif options.markdown:
        print(text.reference(), end="")
    else:
        print(text.effective(_settings(options)), end="")
    return 0


def _models(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if options.action == "list":
        return _list_models(settings)
    if options.wanted is None:
        raise SettingsError("models fetch: say what to fetch: yunet")
    from edge_daemon.detection.download import YUNET, fetch

    print(fetch(YUNET, settings.state_dir, options.url))
    return 0


def _list_models(settings: Settings) -> int:
    from edge_daemon._lib.resources import bundled_detector, bundled_models
    from edge_daemon.detection.download import YUNET
    from edge_daemon.detection.manifest import read_manifest
    from edge_daemon.inference.bundle import read_bundle

    folder = settings.inference.bundle or bundled_models()
    bundle = read_bundle(folder)
    print(f"bundle {bundle.bundle_id} of {bundle.created:%Y-%m-%d} in {folder}")
    for member in bundle.members:
        size = (folder / member.file).stat().st_size
        mirrored = ", mirrored" if member.mirrored else ""
        print(
            f"  {member.file}{mirrored}: {member.family}, {member.quantisation}, "
            f"{size / 1e6:.2f} MB, "
            f"{member.mmac:.1f} MMAC, {100 * member.metrics.accuracy:.1f} % on "
            f"{member.metrics.split}, weight {member.weight:.2f}, sha256 {member.sha256[:12]}"
        )
    ensemble = bundle.ensemble.metrics
    print(f"  ensemble: {100 * ensemble.accuracy:.1f} % on {ensemble.split}")
    detector = read_manifest(bundled_detector())
    print(
        f"detector bundled: {detector.file}, {detector.parameters} parameters, "
        f"sha256 {detector.sha256[:12]}"
    )
    fetched = settings.state_dir / YUNET.file
    print(f"detector yunet: {fetched if fetched.is_file() else 'not fetched'}")
    return 0


def _homeassistant(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from edge_daemon.publishing.broker import broker_from
    from edge_daemon.publishing.client import publish_single
    from edge_daemon.publishing.homeassistant import removal

    prefix = settings.homeassistant.prefix
    publish_single(broker_from(settings.mqtt), removal(settings.device_id, prefix))
    print(
        f"{settings.device_id} is removed from Home Assistant. A daemon that runs with "
        "homeassistant.discovery = true brings it back when it connects anew."
    )
    return 0


def _tame_libraries() -> None:
    """What they read from the environment; a user's own choice stays.

    Their notes on standard error would stand between our lines, and a small picture may claim to
    be one that takes all memory.
    """
    for variable, value in {
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(MOST_PIXELS),
        "OPENCV_LOG_LEVEL": "SILENT",
        "OPENCV_FFMPEG_LOGLEVEL": "-8",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }.items():
        os.environ.setdefault(variable, value)
