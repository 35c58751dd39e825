"""Sizes that are open in the original and fixed in an export: somebody has said them, or there is no export."""

import pytest

from gateway.export.runners import fixed_sizes
from gateway.export.source import Source
from gateway.export.tasks import Failed
from gateway.repository.scan import ModelConfig
from runtimes.contract import Signature, TensorSpec


def source(origins: dict[str, str], batches: bool = True) -> Source:
    signature = Signature((TensorSpec("image", "FP32", (-1, 3, -1, -1)), TensorSpec("scale", "FP32", (-1, 1))), ())
    shapes = {"image": (1, 3, 8, 8), "scale": (1, 1)}
    config = ModelConfig("model", "1", "")
    return Source(config, "onnx", None, {}, "", signature, shapes, batches, origins)  # type: ignore[arg-type]


def exported(*image: int) -> Signature:
    return Signature((TensorSpec("image", "FP32", image), TensorSpec("scale", "FP32", (1, 1))), ())


def test_a_size_that_nobody_said_is_not_fixed() -> None:
    with pytest.raises(Failed, match=r"one size alone, 1,3,8,8, which was invented: .* --shape image=1,3,SIZE,SIZE"):
        fixed_sizes(source({}), exported(1, 3, 8, 8))


def test_who_said_it_is_told() -> None:
    fixed = fixed_sizes(source({"image": "from [preprocess]"}), exported(1, 3, 8, 8))
    assert fixed == ["image fixed at 1x3x8x8 (from [preprocess])"]


def test_what_stays_open_needs_nobody_to_say_it() -> None:
    assert fixed_sizes(source({}), exported(1, 3, -1, -1)) == []
