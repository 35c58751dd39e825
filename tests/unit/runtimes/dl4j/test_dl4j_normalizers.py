"""normalizer.bin equals DataOutputStream's output, and the reference computes what the strategies compute."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.runtimes.dl4j import arrays, normalizers, reference_normalizers, zips

MEAN, STD = (1.5, -2.0, 3.0), (0.5, 2.0, 1.0)


class Stream:
    """DataInputStream"""

    def __init__(self, content: bytes) -> None:
        self.left = io.BytesIO(content)

    def take(self, form: str) -> Any:
        (value,) = struct.unpack(">" + form, self.left.read(struct.calcsize(">" + form)))
        return value

    def utf(self) -> str:
        return self.left.read(self.take("H")).decode()

    def array(self) -> np.ndarray:
        """Nd4j.read, of files from beta4 on"""
        assert self.utf() == "MIXED_DATA_TYPES"
        n = self.take("q")
        assert self.utf() == "LONG"
        shape = np.frombuffer(self.left.read(8 * n), ">i8")
        assert self.utf() == "MIXED_DATA_TYPES"
        n = self.take("q")
        kind = arrays.NUMPY[self.utf()]
        return np.frombuffer(self.left.read(n * np.dtype(kind).itemsize), kind).reshape(shape[1 : 1 + shape[0]])

    def opened(self, kind: str) -> "Stream":
        assert (self.utf(), self.take("i"), self.utf()) == ("NORMALIZER", 1, kind)
        return self

    def ended(self) -> bool:
        return not self.left.read()


def test_standardize() -> None:
    stream = Stream(normalizers.standardize((MEAN, STD))).opened("STANDARDIZE")
    assert stream.take("?") is False
    for expected in (MEAN, STD):
        np.testing.assert_array_equal(stream.array(), [expected])
    assert stream.ended()


def test_labels_follow_where_they_were_fitted() -> None:
    stream = Stream(normalizers.standardize((MEAN, STD), ((7.0,), (8.0,)), dtype="DOUBLE")).opened("STANDARDIZE")
    assert stream.take("?") is True
    assert [stream.array().tolist() for _ in range(4)] == [[list(MEAN)], [list(STD)], [[7.0]], [[8.0]]]
    assert stream.ended()


def test_min_max() -> None:
    stream = Stream(normalizers.min_max((MEAN, STD), target=(-1.0, 1.0))).opened("MIN_MAX")
    assert [stream.take("?"), stream.take("d"), stream.take("d")] == [False, -1.0, 1.0]
    assert [stream.array().size for _ in range(2)] == [3, 3]
    assert stream.ended()


def test_image() -> None:
    stream = Stream(normalizers.image(-1.0, 1.0)).opened("IMAGE_MIN_MAX")
    assert [stream.take("d") for _ in range(3)] == [-1.0, 1.0, 255.0]
    assert stream.ended()


@pytest.mark.parametrize("labels", [None, [(MEAN, STD)]])
def test_several_inputs(labels: Any) -> None:
    stream = Stream(normalizers.multi_min_max([(MEAN, STD), ((1.0,), (2.0,))], labels)).opened("MULTI_MIN_MAX")
    assert [stream.take("?"), stream.take("i"), stream.take("i")] == [bool(labels), 2, len(labels) if labels else -1]
    assert [stream.take("d"), stream.take("d")] == [0.0, 1.0]
    assert [stream.array().size for _ in range(4)] == [3, 3, 1, 1]
    if labels:
        assert [stream.array().size for _ in range(2)] == [3, 3]
    assert stream.ended()


def test_each_input_its_own() -> None:
    fitted: dict[int, Any] = {0: ("standardize", (MEAN, STD)), 2: ("min_max", (MEAN, STD))}
    content = normalizers.multi_hybrid(fitted, every_input="standardize", per_input={2: (-1.0, 1.0)})
    stream = Stream(content).opened("MULTI_HYBRID")
    assert stream.take("i") == 2
    for index, strategy in ((0, 1), (2, 2)):
        assert [stream.take("i"), stream.take("i")] == [index, strategy]
        assert [stream.array().size for _ in range(2)] == [3, 3]
    assert [stream.take("i") for _ in range(3)] == [0, 1, 0]  # no outputs; standardize by default; none for outputs
    assert [stream.take("i") for _ in range(3)] == [1, 2, 2]  # one input with its own strategy: number 2, min-max
    assert [stream.take("d"), stream.take("d"), stream.take("i")] == [-1.0, 1.0, 0]
    assert stream.ended()


def test_a_zip_holds_it(tmp_path: Path) -> None:
    zips.write(tmp_path / "m.zip", {"confs": []}, np.ones(3), normalizer=normalizers.image())
    with zipfile.ZipFile(tmp_path / "m.zip") as file:
        assert file.namelist() == ["configuration.json", "coefficients.bin", "normalizer.bin"]
        assert file.read("normalizer.bin") == normalizers.image()


def test_what_they_compute() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 5))
    np.testing.assert_allclose(reference_normalizers.standardize(x, MEAN, STD)[:, 1], (x[:, 1] + 2) / 2)
    np.testing.assert_allclose(
        reference_normalizers.standardize(x[:, :, 0], MEAN, (0, 1, 1))[:, 0], (x[:, 0, 0] - 1.5) * 1e5
    )
    scaled = reference_normalizers.min_max(np.array([[1.0, 5.0], [3.0, 5.0]]), (1, 5), (3, 5), -1, 1)
    np.testing.assert_allclose(scaled, [[-1, -1], [1, -1]])
    np.testing.assert_allclose(reference_normalizers.image(np.array([0.0, 255.0]), -1, 1), [-1, 1])
