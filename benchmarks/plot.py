"""The curve of the anytime ensemble, as a picture."""

import importlib.util
from pathlib import Path

from benchmarks.results import Anytime


def can_plot() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def write_anytime(anytime: Anytime, path: Path) -> None:
    """Write the curve as SVG. It needs matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "edge-daemon"})
    mpl.rcParams["font.family"] = "sans-serif"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(
        [point.budget_ms for point in anytime.budgets],
        [100 * point.accuracy for point in anytime.budgets],
        "o-",
        color="#3987e5",
        markersize=4,
        label="the daemon with this time budget",
    )
    axes.plot(
        [point.ms for point in anytime.members],
        [100 * point.accuracy for point in anytime.members],
        "s",
        color="#d95926",
        label="fixed number of members",
    )
    for point in anytime.members:
        axes.annotate(
            str(point.members),
            (point.ms, 100 * point.accuracy),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
        )
    axes.set_xlabel("milliseconds of processor time a face")
    axes.set_ylabel("accuracy on PublicTest, %")
    axes.grid(alpha=0.3)
    axes.margins(y=0.15)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
