from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_split

from edge_daemon.inference.ensemble import log_softmax
from emotion_trainer.bundle.bundling import make_bundle
from emotion_trainer.bundle.candidates import TrainedModel
from emotion_trainer.bundle.figures import measure_bundle
from emotion_trainer.bundle.views import predict_views
from emotion_trainer.data import Dataset
from emotion_trainer.training.runs import Run


def test_unbalanced_figures_keep_the_weights_of_the_manifest(
    place: Path, dataset: Dataset, tmp_path: Path
) -> None:
    """A fit would prefer the first view, which is always right."""
    model = TrainedModel(Run(place / "run"))
    bundled = make_bundle([model], dataset, tmp_path, lambda *_: {})
    assert bundled.foreign == ()
    made = bundled.bundle
    right = np.eye(7)[dataset.validation.labels]
    noise = np.random.default_rng(0).normal(0.0, 1.0, right.shape)
    views = [
        replace(view, predictions=replace(view.predictions, log_probabilities=logs))
        for view, logs in zip(
            predict_views([model], dataset, mirrored=True),
            log_softmax(np.array([9 * right, noise + 0.5 * right], np.float32)),
            strict=True,
        )
    ]
    members = tuple(view.as_member(w) for view, w in zip(views, (0.01, 0.99), strict=True))
    ensemble = made.ensemble.model_copy(
        update={"adjustment": {"happy": 5.0}, "temperatures": (1.0, 9.0)}
    )
    manifest = made.model_copy(update={"members": members, "ensemble": ensemble})

    found = measure_bundle(manifest, bundled.bundling, views, dataset).unbalanced
    second = views[1].predictions.metrics
    assert second.accuracy < 0.5
    assert found.accuracy == pytest.approx(second.accuracy, abs=0.05)
    assert found.recall["happy"] < 0.9


def test_members_that_were_trained_on_other_data_are_named(
    place: Path, dataset: Dataset, tmp_path: Path
) -> None:
    other = replace(dataset, training=draw_split(448, seed=5))
    model = TrainedModel(Run(place / "run"))
    bundled = make_bundle([model], other, tmp_path, lambda *_: {})
    assert bundled.foreign == ("tiny",)
    assert str(bundled).splitlines()[-1].endswith(": tiny")
