"""Trains the emotion models of edge-daemon, turns them into int8 TFLite, and bundles them."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final, NoReturn

from edge_daemon.errors import EdgeDaemonError, SettingsError
from emotion_trainer.commands import (
    bundle,
    detector,
    evaluate,
    predict,
    prepare,
    track,
    train,
)
from emotion_trainer.errors import did_you_mean
from emotion_trainer.keras_import import import_keras

# TensorFlow logs its start to standard error unless this is set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
BACKENDS: Final = ("tensorflow", "jax", "torch")
PROGRAM: Final = "emotion-trainer"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0 when done, 1 when it failed, 2 for bad usage or a bad recipe."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    try:
        _check_words(parser, words)
        options = parser.parse_args(words)
        _check_backend()
        if options.needs_keras:
            import_keras()
        options.command(options)
    except EdgeDaemonError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped", file=sys.stderr)
        return 1
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, like all other errors."""

    def error(self, message: str) -> NoReturn:
        problem = message.removeprefix("argument ")
        has_fix = ";" in problem
        raise SettingsError(problem if has_fix else f"{problem}; see '{self.prog} --help'")


def _check_words(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Refuse an unknown command or option, with the most similar one as a hint.

    Raises:
        SettingsError: a command or an option is unknown.
    """
    commands = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    if commands is not None and words and not words[0].startswith("-"):
        if words[0] not in commands.choices:
            hint = did_you_mean(words[0], commands.choices)
            raise SettingsError(f"unknown command '{words[0]}'{hint}; see '{parser.prog} --help'")
        _check_words(commands.choices[words[0]], words[1:])
        return
    known = list(parser._option_string_actions)
    for name in (word.partition("=")[0] for word in words if word.startswith("--")):
        if not any(option.startswith(name) for option in known):
            hint = did_you_mean(name, known)
            raise SettingsError(f"unknown option '{name}'{hint}; see '{parser.prog} --help'")


def _check_backend() -> None:
    """Report in one line what Keras would report as a traceback.

    Raises:
        SettingsError: the backend in `KERAS_BACKEND` is unknown or not installed.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in BACKENDS:
        raise SettingsError(f"KERAS_BACKEND: must be {', '.join(BACKENDS)} (got {backend!r})")
    if find_spec(backend) is None:
        fix = f"pip install 'emotion-trainer[{backend}]'"
        raise SettingsError(f"KERAS_BACKEND: not installed (got {backend!r}); {fix}")


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(prog=PROGRAM, description=__doc__)
    parser.set_defaults(needs_keras=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (train, bundle, evaluate, track, prepare, predict, detector):
        module.add_commands(commands)
    return parser
