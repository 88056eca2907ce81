"""What can go wrong, as one tree.

    EdgeDaemonError
    ├── SettingsError      exit 2: the configuration or the command line is wrong
    ├── SourceError        exit 1: the source cannot be opened or read
    │   ├── SourceLost        a live source went away and may come back
    │   ├── SourceIncomplete  a file gave fewer frames than it states (capture/base.py)
    │   └── ImageError        an image cannot be decoded (capture/image_decoding.py)
    ├── DetectorError      exit 1: a face detector cannot be built or fetched
    ├── BundleError        exit 1: the model bundle is refused
    ├── BrokerError        exit 1: the broker cannot be reached, or refuses
    ├── MetricsError       exit 1: the metrics cannot be served
    ├── PreviewError       exit 1: the preview cannot be served
    ├── OutputError        exit 1: an output file cannot be written
    ├── StateInUse         exit 1: another process uses the state folder
    ├── PipelineError      exit 1: a stage failed or got stuck
    └── OutputClosed       exit 0: the reader of the results has closed its end

Each message is one line with the subject, the problem and, if there is one, the fix.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

FINITE_COMMANDS: Final = frozenset({"check", "bench", "models", "homeassistant", "config"})
"""Commands that end by themselves, so that a signal leaves them incomplete."""


def exit_code_of_signal(number: int, words: Sequence[str]) -> int:
    """The exit code when a signal ends the program.

    Args:
        number: the signal.
        words: of the command line.

    Returns:
        As a shell states it, such as 130 for Ctrl-C; 0 for `run` and `watch`, whose normal end
        this is.
    """
    return 128 + number if words and words[0] in FINITE_COMMANDS else 0


def in_one_line(error: BaseException) -> str:
    """Type and message of a third-party error, in one line; OpenCV's have several."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class EdgeDaemonError(Exception):
    """Base of all errors of this package."""

    exit_code: ClassVar[int] = 1


class SettingsError(EdgeDaemonError):
    """Raised when settings are invalid; `problems` has one line for each."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SourceError(EdgeDaemonError):
    """Raised when a source cannot be opened or read, and a retry does not help."""


class SourceLost(SourceError):
    """Raised when a live source stops delivering frames; opening it again may help."""


class DetectorError(EdgeDaemonError):
    """Raised when a face detector cannot be built, or its model cannot be downloaded."""


class BundleError(EdgeDaemonError):
    """Raised when a model bundle is missing, damaged, or of an unsupported schema."""


class BrokerError(EdgeDaemonError):
    """Raised when a command needs the broker, which is not reachable or refuses."""


class MetricsError(EdgeDaemonError):
    """Raised when the metrics for Prometheus cannot be served."""


class PreviewError(EdgeDaemonError):
    """Raised when the preview cannot be served."""


class OutputError(EdgeDaemonError):
    """Raised when an output file (`--output`, `--summary`) cannot be written."""


class StateInUse(EdgeDaemonError):
    """Raised when another process uses the state folder; a retry helps once it has ended."""


class PipelineError(EdgeDaemonError):
    """Raised when a stage of the pipeline died or got stuck."""


class OutputClosed(EdgeDaemonError):
    """Raised when the reader of standard output has closed it."""

    exit_code = 0
