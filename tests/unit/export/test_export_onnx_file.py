"""In finished ONNX files, optimizers cannot confuse a Pad's zeros with a pooling's own padding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.export.onnx_file import keep_padding

onnx = pytest.importorskip("onnx")


def model(*nodes: Any) -> Any:
    helper = onnx.helper
    pads = onnx.numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [pads]))


def finished(made: Any, folder: Path) -> Any:
    path = folder / "model.onnx"
    onnx.save(made, path)
    keep_padding(path)
    return onnx.load(path)


def node(*arguments: Any, **attributes: Any) -> Any:
    return onnx.helper.make_node(*arguments, **attributes)


def attributes(made: Any) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in made.attribute}


PAD = ("Pad", ["x", "pads"], ["padded"])


def test_a_pooling_without_padding_says_so(tmp_path: Path) -> None:
    pool = node("MaxPool", ["padded"], ["y"], kernel_shape=[2, 2], pads=[0, 0, 0, 0])
    made = finished(model(node(*PAD), pool), tmp_path)
    assert attributes(made.graph.node[1]) == {"kernel_shape": [2, 2], "auto_pad": b"VALID"}
    del made.graph.node[1].attribute[:], pool.attribute[:]
    assert made == model(node(*PAD), pool), "all else is as it was"


@pytest.mark.parametrize("own", [{"pads": [1, 1, 1, 1]}, {"ceil_mode": 1}])
def test_a_pooling_that_cannot_say_so_gives_its_choice_too(tmp_path: Path, own: dict[str, Any]) -> None:
    pool = node("MaxPool", ["cast"], ["y"], kernel_shape=[3, 3], **own)
    cast = node("Cast", ["padded"], ["cast"], to=1)
    made = finished(model(node(*PAD), cast, pool), tmp_path).graph.node[2]
    assert list(made.output) == ["y", "y_indices"]
    assert attributes(made) == {"kernel_shape": [3, 3], **own}


def test_other_files_keep_every_byte(tmp_path: Path) -> None:
    unpadded = model(node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], name="Pad"))
    elsewhere = model(node(*PAD), node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    same = model(node(*PAD), node("MaxPool", ["padded"], ["y"], kernel_shape=[2, 2], auto_pad="SAME_UPPER"))
    for each in (unpadded, elsewhere, same):
        path = tmp_path / "model.onnx"
        onnx.save(each, path)
        before = path.read_bytes()
        keep_padding(path)
        assert path.read_bytes() == before


def test_graphs_inside_are_finished_too(tmp_path: Path) -> None:
    pool = node("MaxPool", ["padded"], ["z"], kernel_shape=[2, 2])
    body = onnx.helper.make_graph([node(*PAD), pool], "b", [], [onnx.helper.make_empty_tensor_value_info("z")])
    made = finished(model(node("If", ["x"], ["y"], then_branch=body, else_branch=body)), tmp_path)
    for branch in attributes(made.graph.node[0]).values():
        assert attributes(branch.node[1])["auto_pad"] == b"VALID"
