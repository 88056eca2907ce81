"""The command line.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 130 interrupted by Ctrl-C (except `run`
and `watch`). An error is one line on standard error; `--debug` adds the traceback.
"""

import argparse
import difflib
import importlib.util
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn, get_args

from edge_daemon import __version__
from edge_daemon._lib.terminal import discard_output
from edge_daemon._lib.text import masked, printable, shortened
from edge_daemon.config.loading import load_settings, settings_file
from edge_daemon.config.settings import (
    METRICS_ADDRESS,
    PREVIEW_ADDRESS,
    DetectorName,
    KeyPath,
    Settings,
)
from edge_daemon.errors import (
    FINITE_COMMANDS,
    EdgeDaemonError,
    SettingsError,
    exit_code_of_signal,
    in_one_line,
)
from edge_daemon.monitoring.systemd import is_standard_error, journal_handler
from edge_daemon.records import MAX_IMAGE_PIXELS

PROGRAM: Final = "edge-daemon"
COMMANDS: Final = ("run", "watch", *sorted(FINITE_COMMANDS))

MAX_ERROR_LENGTH: Final = 800
"""Characters."""

ERROR_MARK: Final = "<3>"
"""Marks a line as an error for the journal (sd-daemon(3))."""

RECORDED_SOURCES: Final = "video, image, or folder of images"
SOURCES: Final = (
    f"camera (picamera, /dev/video0, 0), stream (rtsp://…, http://…), {RECORDED_SOURCES}"
)

EXAMPLES: Final = f"""\
examples:
  {PROGRAM} /dev/video0 --preview
  {PROGRAM} run --source picamera --set mqtt.host=broker.local

{PROGRAM} config --example lists all settings.
"""

Command = Callable[[argparse.Namespace], int]
"""Runs a command and returns the exit code."""


class _Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, like all other errors."""

    def error(self, message: str) -> NoReturn:
        problem = masked(message).removeprefix("argument ")
        raise SettingsError(f"{problem}; see '{self.prog} --help'")


def entry_point() -> NoReturn:
    """The program: run the command and exit."""
    code = main()
    if threading.active_count() > 1:
        # A hung thread would continue while the interpreter shuts down.
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            discard_output()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words:
            _require_camera()
        options = _options(words)
        command: Command = options.command
        if command is not _run:
            _be_interruptible()
        return command(options)
    except SettingsError as error:
        _print_errors(*error.problems, debug="--debug" in words)
        return error.exit_code
    except EdgeDaemonError as error:
        _print_errors(str(error), debug="--debug" in words)
        return error.exit_code
    except KeyboardInterrupt:
        return exit_code_of_signal(signal.SIGINT, words)
    except BrokenPipeError:
        discard_output()  # the reader, such as `head`, has enough
        return 0
    except Exception as error:  # noqa: BLE001  # a bug, reported like any other error
        _print_errors(
            f"{in_one_line(error)}; run with --debug for a traceback", debug="--debug" in words
        )
        return 1


def _be_interruptible() -> None:
    """Restore the default effect of signals, for commands that are not a daemon."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _print_errors(*problems: str, debug: bool) -> None:
    """Print one line for each problem on standard error."""
    if debug:
        print(masked(traceback.format_exc()), end="", file=sys.stderr)
    mark = ERROR_MARK if is_standard_error() else ""
    for problem in problems:
        # It can contain names of files as they are, and an address that was taken for one.
        line = shortened(printable(masked(problem.strip())), MAX_ERROR_LENGTH)
        print(f"{mark}{PROGRAM}: {line}", file=sys.stderr)


def _options(words: list[str]) -> argparse.Namespace:
    """The parsed command line.

    Raises:
        SettingsError: it is invalid.
    """
    options, unknown = _parser().parse_known_args(_with_command(words))
    if any(Path(word).exists() for word in unknown):
        raise SettingsError(
            f"SOURCE: more than one (also got {unknown[0]}); name a folder, or run once for each"
        )
    if unknown:
        raise SettingsError(
            f"unknown arguments: {masked(' '.join(unknown))}; see '{PROGRAM} --help'"
        )
    for option in ("metrics", "preview"):
        value = getattr(options, option, None) or ""
        if "/" in value or value == "picamera" or (value and Path(value).exists()):
            raise SettingsError(
                f"--{option}: must be HOST:PORT (got {value}); write SOURCE before --{option}"
            )
    return options


def _with_command(words: list[str]) -> list[str]:
    """The words with the default command `run`, where none is named.

    Raises:
        SettingsError: the first word is a misspelt command, or a command is not the first word.
    """
    if words and (words[0] in COMMANDS or words[0] in ("-h", "--help", "--version")):
        return words
    if words and not words[0].startswith("-") and not Path(words[0]).exists():
        for command in difflib.get_close_matches(words[0], COMMANDS, n=1):
            raise SettingsError(f"unknown command '{words[0]}'; did you mean '{command}'?")
        if words[0].isalpha() and words[0] != "picamera":
            raise SettingsError(f"unknown command or source '{words[0]}'; see '{PROGRAM} --help'")
    if not set(words).isdisjoint(COMMANDS):
        # Parsed, since values of options can be any names, such as `--output check`. A command
        # behind `--metrics` or `--preview` is read as their value.
        options, _ = _parser().parse_known_args(["run", *words])
        for word in (options.positional_source, options.metrics, options.preview):
            if word in COMMANDS and not Path(word).exists():
                raise SettingsError(f"{word}: must be the first word; write '{PROGRAM} {word} ...'")
    return ["run", *words]


def _require_camera() -> None:
    """Print the help if a run without arguments has no camera.

    Raises:
        SettingsError: there is none.
    """
    settings = _settings(_parser().parse_args(["run"]))
    if (
        settings.source == Settings.model_fields["source"].default
        and importlib.util.find_spec("picamera2") is None
        and not any(Path("/dev").glob("video*"))
    ):
        _parser().print_help(sys.stderr)
        raise SettingsError(
            "source: no camera, neither picamera2 nor /dev/video* exists; name a SOURCE, such as "
            "a video file"
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [-h] [--version] [COMMAND] ...",
        description=sys.modules["edge_daemon"].__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    # `_with_command` adds the default command.
    commands = parser.add_subparsers(required=True, metavar="COMMAND", prog=PROGRAM)
    settings, models = _settings_options(), _model_options()
    common = _common_options(models)
    sourced, recorded = _source_options(SOURCES), _source_options(RECORDED_SOURCES)

    def add(
        name: str, summary: str, command: Command, *parents: _Parser
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=parents, help=summary, description=summary)
        added.set_defaults(command=command)
        return added

    summary = "run the pipeline (the default command)"
    _add_run_options(add("run", summary, _run, common, sourced))
    summary = "verify that a run can start: source, models, broker, disk, clock"
    _add_check_options(add("check", summary, _check, common, sourced))
    summary = "measure the pipeline on a video"
    _add_bench_options(add("bench", summary, _bench, models, recorded))
    summary = "show the messages of all devices, as a live table or as JSON lines"
    _add_watch_options(add("watch", summary, _watch, settings))
    summary = "print the effective settings, an example file, or a table of all settings"
    _add_config_options(add("config", summary, _config, common, sourced))
    summary = "list the model bundle, or download a face detector"
    _add_models_options(add("models", summary, _models, settings))
    summary = "remove the device from Home Assistant"
    _add_homeassistant_options(add("homeassistant", summary, _homeassistant, settings))
    return parser


def _settings_options() -> _Parser:
    """Options of all commands: where settings come from."""
    options = _Parser(add_help=False)
    options.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
    options.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set any setting, such as mqtt.host=broker.local",
    )
    options.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return options


def _source_options(kinds: str) -> _Parser:
    options = _Parser(add_help=False)
    options.add_argument("positional_source", nargs="?", metavar="SOURCE", help=kinds)
    options.add_argument(
        "--source", metavar="SOURCE", help="source of frames, the same as the positional SOURCE"
    )
    return options


def _model_options() -> _Parser:
    """Options of all commands that run the models."""
    options = _Parser(add_help=False, parents=[_settings_options()])
    options.add_argument(
        "--detector",
        metavar="|".join(get_args(DetectorName)),
        help="face detector (detection.detector)",
    )
    options.add_argument(
        "--detector-model", metavar="FILE", help="model file of the detector (detection.model)"
    )
    options.add_argument("--bundle", metavar="FOLDER", help="model bundle (inference.bundle)")
    options.add_argument(
        "--threads", metavar="N", help="threads of the models and the detector (inference.threads)"
    )
    return options


def _common_options(models: _Parser) -> _Parser:
    """These options, and those for what a run publishes and serves."""
    common = _Parser(add_help=False, parents=[models])
    common.add_argument("--sink", metavar="mqtt|jsonl|none", help="where results go (sink)")
    common.add_argument(
        "--metrics",
        nargs="?",
        const=METRICS_ADDRESS,
        metavar="HOST:PORT",
        help=f"serve metrics for Prometheus (metrics.listen; default: {METRICS_ADDRESS})",
    )
    common.add_argument(
        "--preview",
        nargs="?",
        const=PREVIEW_ADDRESS,
        metavar="HOST:PORT",
        help=f"serve a live page for a browser (preview.listen; default: {PREVIEW_ADDRESS})",
    )
    common.add_argument(
        "--log-level",
        metavar="debug|info|warning|error",
        help="minimum log level (log_level)",
    )
    return common


def _whole_number(option: str, minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise SettingsError(f"{option}: must be a whole number (got '{text}')") from None
        if number < minimum:
            raise SettingsError(f"{option}: must be {minimum} or more (got {number})")
        return number

    return parse


def _choice(problem: str, *choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise SettingsError(f"{problem} (got '{text}'); use {' or '.join(choices)}")
        return text

    return parse


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
"""Flags and the settings that they set."""


def _settings(options: argparse.Namespace) -> Settings:
    return load_settings(_named_file(options), _environment(), _flags(options))


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != CONFIG_VARIABLE}


def _named_file(options: argparse.Namespace) -> Path | None:
    named: Path | None = options.config
    variable = os.environ.get(CONFIG_VARIABLE)
    return named or (Path(variable) if variable else None)


def _flags(options: argparse.Namespace) -> dict[KeyPath, object]:
    """The settings on the command line.

    Raises:
        SettingsError: a word is no assignment, or the source is given twice.
    """
    values = {path: getattr(options, name, None) for name, path in FLAGS.items()}
    positional = getattr(options, "positional_source", None)
    if positional is not None:
        if options.source is not None:
            raise SettingsError(f"source: given twice (got {positional} and --source); give one")
        values["source",] = positional
    flags = {path: value for path, value in values.items() if value is not None}
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


def _add_run_options(run: argparse.ArgumentParser) -> None:
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
        "--summary-thumbnails",
        action="store_true",
        help="include an image of each face in the summary (requires --summary; not for live "
        "sources)",
    )


def _run(options: argparse.Namespace) -> int:
    settings = _settings(options)
    _configure_libraries()
    from edge_daemon import daemon  # imports OpenCV, which reads its log level at import
    from edge_daemon._lib.logging import configure_logging
    from edge_daemon.output import OutputOptions

    configure_logging(settings.log_level, journal_handler())
    outputs = OutputOptions(
        tuple(options.output), tuple(options.summary), has_thumbnails=options.summary_thumbnails
    )
    daemon.run(settings, lambda: _settings(options), outputs)
    return 0


def _add_check_options(check: argparse.ArgumentParser) -> None:
    check.add_argument("--json", action="store_true", help="print one JSON object")


def _check(options: argparse.Namespace) -> int:
    _configure_libraries()
    from edge_daemon._lib.logging import configure_logging
    from edge_daemon.commands import check

    configure_logging("error")
    try:
        settings, file = _settings(options), settings_file(_named_file(options))
        fine = check.run(settings, file, as_json=options.json)
    except SettingsError as error:
        fine = check.refuse(error.problems, as_json=options.json)
    return 0 if fine else 1


WARMUP_FRAMES: Final = 10
"""Enough to build the interpreters for usual numbers of faces."""


def _add_bench_options(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    bench.add_argument(
        "--frames",
        type=_whole_number("--frames", minimum=1),
        metavar="N",
        help="frames to measure, repeating the source if necessary; default: the source once",
    )
    bench.add_argument(
        "--warmup",
        type=_whole_number("--warmup", minimum=0),
        default=WARMUP_FRAMES,
        metavar="N",
        help=f"frames before the measurement; default: {WARMUP_FRAMES}",
    )


def _bench(options: argparse.Namespace) -> int:
    settings = _settings(options)
    _configure_libraries()
    from edge_daemon import daemon
    from edge_daemon._lib.logging import configure_logging
    from edge_daemon.commands.bench import measure

    configure_logging("warning")
    report = measure(settings, daemon.build_pipeline, options.frames, options.warmup)
    print(report.as_json() if options.json else report.as_text())
    return 0


def _add_watch_options(watch: argparse.ArgumentParser) -> None:
    watch.add_argument("devices", nargs="*", metavar="DEVICE", help="devices to show; default: all")
    watch.add_argument("--host", help="name or address of the broker (mqtt.host)")
    watch.add_argument("--port", help="port of the broker (mqtt.port)")
    watch.add_argument("--json", action="store_true", help="print messages as JSON lines")


def _watch(options: argparse.Namespace) -> int:
    settings = _settings(options)
    _configure_libraries()
    from edge_daemon.commands import watch

    watch.run(settings, options.devices, as_json=options.json)
    return 0


def _add_config_options(config: argparse.ArgumentParser) -> None:
    form = config.add_mutually_exclusive_group()
    form.add_argument("--example", action="store_true", help="print a commented example file")
    form.add_argument("--markdown", action="store_true", help="print a table of all settings")


def _config(options: argparse.Namespace) -> int:
    from edge_daemon.config import formatting

    if options.example:
        flags = _flags(options)
        # Only from this command line, so that the file does not depend on where it is printed.
        settings = load_settings(Path(os.devnull), {}, flags)
        print(formatting.example(settings, flags), end="")
    elif options.markdown:
        print(formatting.reference(), end="")
    else:
        print(formatting.effective(_settings(options)), end="")
    return 0


def _add_models_options(models: argparse.ArgumentParser) -> None:
    models.add_argument(
        "action",
        nargs="?",
        type=_choice("models: unknown action", "list", "fetch"),
        default="list",
        metavar="list|fetch",
        help="list the models (default), or download a detector",
    )
    models.add_argument(
        "detector_name",
        nargs="?",
        type=_choice("models fetch: unknown detector", "yunet"),
        metavar="yunet",
        help="detector to download",
    )
    models.add_argument("--bundle", metavar="FOLDER", help="model bundle (inference.bundle)")
    models.add_argument("--url", help="download from this address; the checksum must match")


def _models(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if options.action == "list":
        return _list_models(settings)
    if options.detector_name is None:
        raise SettingsError("models fetch: no detector named; use 'models fetch yunet'")
    from edge_daemon._lib.clock import SystemClock
    from edge_daemon._lib.terminal import ProgressLine, can_show_progress
    from edge_daemon.detection.yunet import YUNET, fetch

    if can_show_progress(prints_results=False):
        line = ProgressLine(sys.stderr, "bytes", SystemClock())
        try:
            path = fetch(YUNET, settings.state_dir, options.url, line.update)
        finally:
            line.close()
    else:
        path = fetch(YUNET, settings.state_dir, options.url)
    print(path)
    return 0


def _list_models(settings: Settings) -> int:
    from edge_daemon._lib.files import bundled_detector, bundled_models
    from edge_daemon.detection.bundled import read_manifest
    from edge_daemon.detection.yunet import YUNET
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
    for network in (detector.search, detector.verifier):
        print(
            f"detector bundled: {network.file}, {network.parameters} parameters, "
            f"sha256 {network.sha256[:12]}"
        )
    fetched = settings.state_dir / YUNET.file
    print(f"detector yunet: {fetched if fetched.is_file() else 'not fetched'}")
    return 0


def _add_homeassistant_options(homeassistant: argparse.ArgumentParser) -> None:
    homeassistant.add_argument(
        "action",
        type=_choice("homeassistant: unknown action", "remove"),
        metavar="remove",
        help="remove the device by clearing its discovery message",
    )


def _homeassistant(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from edge_daemon.publishing.broker import broker_from
    from edge_daemon.publishing.client import publish_single
    from edge_daemon.publishing.homeassistant import removal

    prefix = settings.homeassistant.prefix
    publish_single(broker_from(settings.mqtt), removal(settings.device_id, prefix))
    print(
        f"{settings.device_id} is removed from Home Assistant. A running daemon with "
        "homeassistant.discovery = true adds it again at its next connection."
    )
    return 0


def _configure_libraries() -> None:
    """Set environment variables of libraries, unless the user has set them.

    Their messages on standard error would mix with ours, a small image file can claim a size that
    takes all memory, and OpenCV would wait for a V4L2 frame until `capture.read_timeout`.
    """
    for variable, value in {
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(MAX_IMAGE_PIXELS),
        "OPENCV_LOG_LEVEL": "SILENT",
        "OPENCV_FFMPEG_LOGLEVEL": "-8",
        "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "5",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }.items():
        os.environ.setdefault(variable, value)
