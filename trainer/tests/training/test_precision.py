import keras
import pytest

from emotion_trainer.training.precision import computing_in, for_capability, for_processor, resolve


@pytest.mark.parametrize(
    ("capability", "policy"),
    [
        ((6, 1), "float32"),
        ((7, 0), "mixed_float16"),
        ((7, 5), "mixed_float16"),
        ((8, 0), "mixed_bfloat16"),
        ((9, 0), "mixed_bfloat16"),
    ],
)
def test_for_capability_follows_the_tensor_cores(capability: tuple[int, int], policy: str) -> None:
    assert for_capability(capability) == policy


@pytest.mark.parametrize(
    ("instructions", "by_torch", "by_tensorflow"),
    [
        ("amx_bf16 amx_tile", "mixed_bfloat16", "mixed_bfloat16"),
        ("avx512f avx512_bf16", "mixed_bfloat16", "float32"),
        ("avx2 avx512f", "float32", "float32"),
    ],
)
def test_for_processor_follows_its_instructions(
    instructions: str, by_torch: str, by_tensorflow: str
) -> None:
    features = f"flags\t\t: fpu {instructions}\n"
    assert for_processor(features, "torch") == by_torch
    assert for_processor(features, "tensorflow") == by_tensorflow


def test_precision_of_a_recipe_is_used_as_it_is() -> None:
    assert resolve("mixed_float16") == "mixed_float16"


def test_holds_for_the_layers_that_are_made_within() -> None:
    with computing_in("mixed_bfloat16"):
        layer = keras.layers.Dense(1)
    assert layer.compute_dtype == "bfloat16"
    assert layer.variable_dtype == "float32"
    assert keras.layers.Dense(1).compute_dtype == "float32"
