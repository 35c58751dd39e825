"""Weights of TensorFlow.js are read from files below the model's folder, and nothing else."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.contract import LoadError
from runtimes.savedmodel.tfjs_weights import read_weights


def group(paths: list[Any], *weights: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"paths": paths, "weights": list(weights)}]


def weight(name: str, shape: list[Any], dtype: str = "float32", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": dtype, **more}


def read(folder: Path, manifest: Any) -> dict[str, np.ndarray]:
    return read_weights(str(folder), manifest)


def test_datatypes_in_files_that_end_within_a_weight(tmp_path: Path) -> None:
    parts = [
        np.arange(6, dtype="<f4").tobytes(),
        np.array([-3], "<i4").tobytes(),
        np.array([True, False]).tobytes(),
        b"".join(struct.pack("<I", len(text)) + text for text in (b"a\0", b"")),
        np.array([0, 1, 255], "u1").tobytes(),
        np.array([3, 65535], "<u2").tobytes(),
        np.array([1.5], "<f2").tobytes(),
    ]
    data = b"".join(parts)
    (tmp_path / "below").mkdir()
    (tmp_path / "one.bin").write_bytes(data[:13])
    (tmp_path / "below" / "two.bin").write_bytes(data[13:])
    manifest = group(
        ["./one.bin", "below/two.bin"],
        weight("f", [2, 3]),
        weight("i", [], "int32"),
        weight("b", [2], "bool"),
        weight("s", [2], "string"),
        weight("u1", [3], quantization={"dtype": "uint8", "scale": 0.1, "min": -1.0}),
        weight("u2", [2], "int32", quantization={"dtype": "uint16", "scale": 0.5, "min": -2}),
        weight("h", [1], quantization={"dtype": "float16"}),
    )
    found = read(tmp_path, manifest)
    np.testing.assert_array_equal(found["f"], np.arange(6, dtype=np.float32).reshape(2, 3))
    assert (found["i"].shape, found["i"].dtype, found["i"].item()) == ((), np.int32, -3)
    assert found["b"].tolist() == [True, False]
    assert found["s"].tolist() == [b"a\0", b""]
    np.testing.assert_array_equal(found["u1"], np.array([-1, -0.9, 24.5], np.float64).astype(np.float32))
    assert found["u2"].tolist() == [0, 32766]  # halves are rounded up, as by JavaScript's Math.round
    assert found["h"].tolist() == [1.5]


@pytest.mark.parametrize(
    "path", ["../w.bin", "a/../../w.bin", "/etc/passwd", "http://host/w.bin", "a\\..\\w.bin", "", "a//b", 3]
)
def test_files_outside_of_the_folder_are_refused(tmp_path: Path, path: Any) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(4))
    inner = tmp_path / "model"
    inner.mkdir()
    with pytest.raises(LoadError, match="is not a file below the model's folder"):
        read(inner, group([path], weight("w", [1])))


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (group(["none.bin"], weight("w", [1])), "the file 'none.bin' is missing"),
        (group(["w.bin"], weight("w", [3])), "the files with the weights end within 'w', at 8 bytes"),
        (group(["w.bin"], weight("w", [1])), "the files 'w.bin' have 8 bytes, but the weights in the manifest need 4"),
        (group(["w.bin"], weight("w", [1]), weight("w", [1])), "has the weight 'w' twice"),
        (group(["w.bin"], weight("w", [1], "float8")), "the weight 'w' has the datatype float8"),
        (group(["w.bin"], weight("w", [1], quantization={"dtype": "uint8"})), "no scale"),
        (group(["w.bin"], weight("w", [-1])), "the manifest of the weights is damaged"),
        (group(["w.bin"], weight("w", [1 << 62, 1 << 62])), "the files with the weights end within 'w'"),
        (group(["w.bin"], weight("w", [1 << 40], "string")), "the files with the weights end within 'w'"),
        (group(["w.bin"], weight("w", [0, 1 << 63])), "the manifest of the weights is damaged (ValueError)"),
        (group(["w.bin"], weight("w", [1] * 100)), "the manifest of the weights is damaged (ValueError)"),
        (group(["w.bin"], weight("w", [1], quantization=[1])), "the manifest of the weights is damaged"),
        (group(["w\0.bin"], weight("w", [1])), "the manifest of the weights is damaged"),
        ([{"weights": []}], "a group without 'paths'"),
        ([3], "a group without 'paths'"),
    ],
    ids=str,
)
def test_damaged_manifests_and_truncated_files(tmp_path: Path, manifest: Any, reason: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    with pytest.raises(LoadError) as error:
        read(tmp_path, manifest)
    assert reason in str(error.value)
