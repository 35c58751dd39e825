"""Find the files with an ONNX model's weights. The model names them, wherever the tensor is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.export.external import weight_files
from gateway.export.jobs import RouteFailed
from gateway.export.report import size_and_digest

FLOAT = TensorProto.FLOAT


def kept_in(location: str, name: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(*tensors: onnx.TensorProto, inner: onnx.TensorProto | None = None) -> bytes:
    """Return a model. inner: a constant in a branch of the graph."""
    nodes = []
    if inner is not None:
        constant = helper.make_node("Constant", [], ["c"], value=inner)
        branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("c", FLOAT, [3])])
        nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)]
    whole = numpy_helper.from_array(np.ones(500, np.float32), "whole")
    return helper.make_model(helper.make_graph(nodes, "g", [], [], [whole, *tensors])).SerializeToString()  # type: ignore[no-any-return]


def written(folder: Path, content: bytes, *weights: str) -> Path:
    for name in weights:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(12))
    (folder / "net.onnx").write_bytes(content)
    return folder / "net.onnx"


def test_any_name_in_any_place(tmp_path: Path) -> None:
    content = model(
        kept_in("weights.bin", "a"), kept_in("layer.0/вес", "b"), kept_in("weights.bin", "c"), inner=kept_in("d 1", "d")
    )
    path = written(tmp_path, content, "weights.bin", "layer.0/вес", "d 1")
    assert sorted(weight_files(path)) == ["d 1", "layer.0/вес", "weights.bin"]


def test_none(tmp_path: Path) -> None:
    assert weight_files(written(tmp_path, model())) == []


def test_a_tensor_that_has_its_values_itself_needs_no_file(tmp_path: Path) -> None:
    """The tensor may still name a file that it was once stored in."""
    tensor = kept_in("gone.bin", "a")
    tensor.data_location = TensorProto.DEFAULT
    assert weight_files(written(tmp_path, model(tensor))) == []


def test_a_graph_too_large_to_read_at_once(tmp_path: Path) -> None:
    large = numpy_helper.from_array(np.ones(100_000, np.float32), "large")
    content = model(large, kept_in("weights.bin", "a"), inner=kept_in("other.bin", "b"))
    assert sorted(weight_files(written(tmp_path, content, "weights.bin", "other.bin"))) == ["other.bin", "weights.bin"]


def test_what_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    """Written by hand, because no library writes a node in a graph in an attribute of a node, and so on."""
    content = b""
    for field in [1, 6, 5] * 50 + [1, 7]:
        content = bytes([field << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content
    with pytest.raises(RouteFailed, match="not an ONNX file"):
        weight_files(written(tmp_path, content))


@pytest.mark.parametrize("location", ["../weights.bin", "/weights.bin", "a/../../weights.bin"])
def test_nothing_outside_of_the_folder(tmp_path: Path, location: str) -> None:
    with pytest.raises(RouteFailed, match="outside its folder"):
        weight_files(written(tmp_path, model(kept_in(location, "a"))))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RouteFailed, match=r"'gone\.bin', which is missing from its folder"):
        weight_files(written(tmp_path, model(kept_in("gone.bin", "a"))))


def test_what_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(RouteFailed, match="truncated"):
        weight_files(written(tmp_path, model()[:-100]))


def test_a_digest_of_several_changes_with_each(tmp_path: Path) -> None:
    files = [written(tmp_path, model()), tmp_path / "weights.bin"]
    digests = set()
    for content in (b"one", b"two"):
        files[1].write_bytes(content)
        size, digest = size_and_digest(files)
        assert size == files[0].stat().st_size + 3
        digests.add(digest)
    assert len(digests) == 2
