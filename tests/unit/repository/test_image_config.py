"""The tables [preprocess] and [postprocess]: valid and invalid values, and models that they do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.image_processing import Postprocess, Preprocess
from gateway.domain.table import Table, TableEntry, table_from_json, table_to_json
from gateway.domain.types import ModelStatus
from gateway.repository.image_config import incompatibility
from gateway.repository.model_toml import ModelConfigError, ModelToml, read_model_toml
from runtimes.contract import Signature, TensorSpec


def read(tmp_path: Path, text: str) -> ModelToml:
    file = tmp_path / "m" / "model.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return read_model_toml(file)


def test_every_key(tmp_path: Path) -> None:
    toml = read(
        tmp_path,
        """
        [preprocess]
        input = "image"
        size = [224, 192]
        resize = "crop"
        shorter_side = 256
        fill = 114
        interpolation = "bicubic"
        color = "BGR"
        invert = true
        scale = "1/255"
        mean = [0.485, 0.456, "0.406"]
        std = 0.5
        layout = "NHWC"
        [postprocess]
        output = "scores"
        softmax = true
        top_k = 7
        """,
    )
    assert toml.preprocess is not None
    assert toml.preprocess.resolve() == Preprocess(
        (224, 192),
        "image",
        "crop",
        256,
        114,
        "bicubic",
        "BGR",
        True,
        1 / 255,
        (0.485, 0.456, 0.406),
        (0.5,) * 3,
        "NHWC",
    )
    assert toml.postprocess is not None
    assert toml.postprocess.resolve() == Postprocess("scores", True, 7)


def test_defaults(tmp_path: Path) -> None:
    toml = read(tmp_path, "[preprocess]\nsize = [8, 8]\n[postprocess]")
    assert toml.preprocess is not None
    assert toml.preprocess.resolve() == Preprocess((8, 8))
    assert toml.postprocess is not None
    assert toml.postprocess.resolve() == Postprocess()
    assert read(tmp_path, "").preprocess is None


def test_the_deprecated_spelling_of_color(tmp_path: Path) -> None:
    toml = read(tmp_path, '[preprocess]\nsize = [8, 8]\ncolour = "BGR"')
    assert toml.preprocess is not None
    assert toml.preprocess.resolve().color == "BGR"
    with pytest.raises(ModelConfigError, match=r"there is no key 'preprocess\.colour'"):
        read(tmp_path, '[preprocess]\nsize = [8, 8]\ncolor = "RGB"\ncolour = "BGR"')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the key 'preprocess.size' is missing"),
        ("size = [8]", "'preprocess.size"),
        ("size = 8", "'preprocess.size' is 8"),
        ("size = [0, 8]", "'preprocess.size.0' is 0"),
        ("size = [8, 20000]", "'preprocess.size.1' is 20000"),
        ("size = [8, 8]\nsise = 1", "there is no key 'preprocess.sise'; the keys are color, fill"),
        ('size = [8, 8]\nresize = "squeeze"', "'stretch', 'crop' or 'pad'"),
        ('size = [8, 8]\ncolor = "HSV"', "'RGB', 'BGR' or 'GRAY'"),
        ('size = [8, 8]\nlayout = "CHW"', "'NCHW', 'NHWC', 'NHW' or 'flat'"),
        ('size = [8, 8]\nlayout = "NHW"', 'it needs color = "GRAY"'),
        ('size = [8, 8]\nscale = "a/b"', "a fraction in quotes"),
        ('size = [8, 8]\nscale = "1/0"', "a fraction in quotes"),
        ("size = [8, 8]\nscale = inf", "'preprocess.scale' is inf"),
        ("size = [8, 8]\nmean = [1, 2]", "one for each channel of RGB: 3"),
        ("size = [8, 8]\nstd = [1, 0, 1]", "std must not be 0"),
        ("size = [8, 8]\nshorter_side = 9", "needs resize"),
        ('size = [8, 8]\nresize = "crop"\nshorter_side = 7', "at least 8"),
        ("size = [8, 8]\nfill = 256", "'preprocess.fill' is 256"),
    ],
)
def test_invalid_values(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        read(tmp_path, "[preprocess]\n" + text)
    assert says in str(caught.value)
    assert str(caught.value).startswith("m/model.toml: ")


def test_the_table_preserves_them() -> None:
    status = ModelStatus("m", "1", "READY", preprocess=Preprocess((8, 9)), postprocess=Postprocess("y", True, 3))
    table = Table((TableEntry(status), TableEntry(ModelStatus("n", "1", "READY"))))
    read = table_from_json(json.loads(json.dumps(table_to_json(table))))
    assert [(entry.status.preprocess, entry.status.postprocess) for entry in read.entries] == [
        (status.preprocess, status.postprocess),
        (None, None),
    ]


def problem(
    pre: dict[str, Any] | None,
    post: dict[str, Any] | None,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...] = (),
    lines: int = 0,
    batch_dim: int = 0,
) -> str:
    toml = ModelToml.model_validate({"preprocess": pre, "postprocess": post})
    labels = {"y": ["label"] * lines}
    return incompatibility(toml.preprocess, toml.postprocess, Signature(inputs, outputs), labels, batch_dim)


GRAY = {"size": [8, 8], "color": "GRAY"}
X, Y = TensorSpec("x", "FP32", (-1, 64)), TensorSpec("y", "FP32", (-1, 10))


@pytest.mark.parametrize(
    "spec",
    [
        ("FP32", (-1, 1, 8, 8)),
        ("FP16", (1, 1, 8, 8)),
        ("", None),
        ("UINT8", (-1, -1, -1, -1)),
        ("INT64", (-1, 1, -1, 8)),
    ],
)
def test_compatible_models(spec: tuple[str, Any]) -> None:
    assert problem(GRAY, {}, (TensorSpec("x", *spec),), (Y,), lines=10) == ""


@pytest.mark.parametrize(
    ("pre", "inputs", "says"),
    [
        (GRAY, (X,), "makes images of shape [-1, 1, 8, 8], but input 'x' needs [-1, 64] (-1 is any size)"),
        ({"size": [8, 8]}, (TensorSpec("x", "FP32", (-1, 8, 8, 3)),), "change size, color or layout"),
        (GRAY, (X, Y), "cannot provide the inputs 'x', 'y'"),
        (GRAY, (), "cannot provide the inputs"),
        ({**GRAY, "input": "z"}, (X,), "is for input 'z', but images can only be 'x'"),
        (GRAY, (TensorSpec("x", "BYTES", None),), "has datatype BYTES"),
        (GRAY, (TensorSpec("x", "INT8", None),), "makes values from 0 to 255, out of the range of INT8"),
        ({**GRAY, "mean": 1}, (TensorSpec("x", "UINT8", None),), "from -1 to 254, out of the range of UINT8"),
        ({**GRAY, "scale": 1000}, (TensorSpec("x", "FP16", None),), "out of the range of FP16"),
    ],
)
def test_incompatible_inputs(pre: dict[str, Any], inputs: tuple[TensorSpec, ...], says: str) -> None:
    assert says in problem(pre, None, inputs)


def test_images_need_the_first_dimension_as_batch_dimension() -> None:
    assert "batch_dim is 1" in problem(GRAY, None, (TensorSpec("x", "FP32", None),), batch_dim=1)


@pytest.mark.parametrize(
    ("post", "outputs", "says"),
    [
        ({}, (Y, X), "must name one output; there are 'y', 'x'"),
        ({"output": "z"}, (Y,), "is for output 'z', but there is none of that name; there are 'y'"),
        ({}, (TensorSpec("y", "BYTES", (-1, 3)),), "has datatype BYTES"),
        ({}, (TensorSpec("y", "FP32", (-1,)),), "needs rows of scores, but output 'y' has shape [-1]"),
        ({}, (TensorSpec("y", "FP32", (-1, 10, 4)),), "needs rows of scores"),
        ({}, (TensorSpec("y", "FP32", (-1, 11)),), "output 'y' has 11 scores, but its labels file has 10 lines"),
    ],
)
def test_incompatible_outputs(post: dict[str, Any], outputs: tuple[TensorSpec, ...], says: str) -> None:
    assert says in problem(None, post, (X,), outputs, lines=10)


@pytest.mark.parametrize("outputs", [(), (TensorSpec("y"),), (TensorSpec("y", "FP32", (-1, -1, 1, 1)),)])
def test_unknown_outputs_are_compatible(outputs: tuple[TensorSpec, ...]) -> None:
    assert problem(None, {}, (X,), outputs, lines=10) == ""
