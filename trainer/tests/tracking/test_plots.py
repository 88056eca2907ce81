import pytest

from emotion_trainer.evaluation.robustness import DEGRADATIONS, Curve
from emotion_trainer.tracking import plots
from emotion_trainer.training.checkpoint import Epoch


@pytest.mark.parametrize("epochs", [1, 2, 3, 110])
def test_curves_have_ticks_at_whole_epochs(epochs: int) -> None:
    history = tuple(Epoch(number + 1, 1.0, 0.5, 1.0) for number in range(epochs))
    figure = plots.curves({"tiny": history})
    for axes in figure.axes:
        ticks = axes.get_xticks()
        assert len(ticks)
        assert all(float(tick).is_integer() for tick in ticks)


def test_degradation_plot_has_each_model_and_level() -> None:
    kind = DEGRADATIONS[0]
    values = [0.7] * len(kind.levels)
    curve = Curve(kind, {"ensemble": values, "resnet": values}, values)
    (axes,) = plots.degradation(curve).axes
    assert [line.get_label() for line in axes.lines] == ["ensemble", "resnet"]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == [f"{level:g}" for level in kind.levels]


def test_svg_file_is_the_same_each_time() -> None:
    kind = DEGRADATIONS[0]
    curve = Curve(kind, {"ensemble": [0.7] * len(kind.levels)}, [0.1] * len(kind.levels))
    first, second = (plots.as_svg_file(plots.degradation(curve)) for _ in range(2))
    assert first == second
