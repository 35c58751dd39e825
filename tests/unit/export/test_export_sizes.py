"""Dynamic sizes that an export fixes: the user gave them, or the export is refused."""

import pytest

from gateway.export.export import refusal
from gateway.export.jobs import RouteFailed
from gateway.export.report import Attempt
from gateway.export.source import Source
from gateway.export.verification import fixed_sizes
from gateway.repository.model_config import ModelConfig
from runtimes.contract import Signature, TensorSpec


def source(origins: dict[str, str], batches: bool = True) -> Source:
    signature = Signature((TensorSpec("image", "FP32", (-1, 3, -1, -1)), TensorSpec("scale", "FP32", (-1, 1))), ())
    shapes = {"image": (1, 3, 8, 8), "scale": (1, 1)}
    config = ModelConfig("model", "1", "")
    return Source(config, "onnx", None, {}, "", signature, shapes, batches, origins)  # type: ignore[arg-type]


def exported(*image: int) -> Signature:
    return Signature((TensorSpec("image", "FP32", image), TensorSpec("scale", "FP32", (1, 1))), ())


def test_a_size_that_the_user_did_not_give_is_not_fixed() -> None:
    with pytest.raises(RouteFailed, match="only in the size 1,3,8,8, which modelport chose") as failed:
        fixed_sizes(source({}), exported(1, 3, 8, 8))
    assert failed.value.advice == "give the size you need with --shape image=1,3,SIZE,SIZE"


def test_advice_comes_before_what_the_tools_said() -> None:
    """Converters fail in eight ways, but the one sentence that helps comes first."""
    attempts = [Attempt(f"route {number}", "", f"converter {number} failed") for number in range(8)]
    advice = "give the size you need with --shape image=1,3,SIZE,SIZE"
    sentence = refusal("segmenter", "tflite", attempts, advice)
    assert sentence.startswith(
        f"model 'segmenter' cannot be exported to tflite: {advice}. Every route failed: route 0:"
    )
    assert sentence.endswith("converter 5 failed; and 2 more")
    assert refusal("segmenter", "tflite", attempts[:1], "") == (
        "model 'segmenter' cannot be exported to tflite. Every route failed: route 0: converter 0 failed"
    )


def test_the_origin_of_a_fixed_size_is_reported() -> None:
    fixed = fixed_sizes(source({"image": "from [preprocess]"}), exported(1, 3, 8, 8))
    assert fixed == ["image fixed at 1x3x8x8 (from [preprocess])"]


def test_sizes_that_stay_dynamic_need_no_origin() -> None:
    assert fixed_sizes(source({}), exported(1, 3, -1, -1)) == []
