from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_daemon._lib.files import bundled_models
from edge_daemon.errors import BundleError
from edge_daemon.inference import ensemble
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.inference.ensemble import BatchModel
from edge_daemon.records import Image

MODEL = bundled_models() / read_bundle(bundled_models()).members[0].file


def faces(count: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 48), np.uint8)


def test_logits_are_seven_floats_a_face() -> None:
    logits = BatchModel(MODEL, 4, 1).logits(faces(4))
    assert (logits.shape, logits.dtype) == ((4, 7), np.float32)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_model_partial_batch_gives_as_many_logits(count: int) -> None:
    assert BatchModel(MODEL, 4, 1).logits(faces(count)).shape == (count, 7)


def test_model_result_is_independent_of_the_batch_before() -> None:
    model = BatchModel(MODEL, 4, 1)
    alone = model.logits(faces(2))
    model.logits(faces(4, seed=1))
    assert np.array_equal(model.logits(faces(2)), alone)


def test_model_result_is_not_overwritten_by_the_next() -> None:
    model = BatchModel(MODEL, 1, 1)
    first = model.logits(faces(1))
    kept = first.copy()
    model.logits(faces(1, seed=1))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"TFL3" * 1000])
def test_model_invalid_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "member.tflite"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"member\.tflite") as refused:
        BatchModel(path, 1, 1)
    assert len(str(refused.value).splitlines()) == 1


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent\.tflite"):
        BatchModel(tmp_path / "absent.tflite", 1, 1)


def rewritten(folder: Path, change: Callable[[Any, ModuleType], None]) -> Path:
    """The bundled model with its graph changed."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(MODEL.read_bytes(), 0)
    model.signatureDefs = []
    change(model.subgraphs[0], schema)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path = folder / "member.tflite"
    path.write_bytes(builder.Output())
    return path


def quantised_output(graph: Any, _schema: ModuleType) -> None:
    """Leaves out the last step, which makes floats of the quantised logits."""
    graph.outputs = [graph.operators.pop().inputs[0]]


def test_model_without_float_output_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"member\.tflite.*uint8.*float32"):
        BatchModel(rewritten(tmp_path, quantised_output), 1, 1)


def test_model_rewritten_unchanged_is_accepted(tmp_path: Path) -> None:
    same = rewritten(tmp_path, lambda _graph, _schema: None)
    assert np.array_equal(
        BatchModel(same, 1, 1).logits(faces(1)), BatchModel(MODEL, 1, 1).logits(faces(1))
    )


def test_model_for_another_number_of_emotions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.inference.ensemble.EMOTIONS", ("happy", "other"))
    with pytest.raises(BundleError, match="2 logits"):
        BatchModel(MODEL, 1, 1)


def test_model_for_another_size_of_crop_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.inference.ensemble.CROP_SIDE", 64)
    with pytest.raises(BundleError, match=MODEL.name):
        BatchModel(MODEL, 1, 1)


@pytest.mark.parametrize("threads", [1, 3])
def test_model_interpreter_gets_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    thread_counts = []
    make = ensemble.open_interpreter
    monkeypatch.setattr(
        ensemble,
        "open_interpreter",
        lambda model, count: thread_counts.append(count) or make(model, count),
    )
    BatchModel(MODEL, 1, threads)
    assert thread_counts == [threads]
