"""Make a model with a state: `PYTHON make_sequence_models.py FRAMEWORK FILE`, in an interpreter that has the framework.

new_total = x + total + 10 * start, and y = 2 * new_total.
"""

import importlib.util
import sys
from pathlib import Path

TFLITE = Path(__file__).parents[1] / "contract" / "make" / "tflite.py"


def onnx(path):
    from onnx import TensorProto, helper, save

    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Constant", [], ["ten"], value_float=10.0),
        node("Cast", ["start"], ["flag"], to=TensorProto.FLOAT),
        node("Mul", ["flag", "ten"], ["begun"]),
        node("Add", ["x", "total"], ["sum"]),
        node("Add", ["sum", "begun"], ["new_total"]),
        node("Add", ["new_total", "new_total"], ["y"]),
    ]
    inputs = [value(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "total")]
    outputs = [value(name, TensorProto.FLOAT, ["n", 2]) for name in ("y", "new_total")]
    graph = helper.make_graph(nodes, "g", [*inputs, value("start", TensorProto.INT32, ["n", 1])], outputs)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def torchscript(path):
    import torch

    scripted = torch.jit.ScriptModule()
    scripted.define(
        "def forward(self, x: Tensor, total: Tensor, start: Tensor) -> Dict[str, Tensor]:\n"
        "    new = x + total + 10.0 * start\n"
        "    return {'y': new * 2, 'new_total': new}\n"
    )
    scripted.save(path)


def savedmodel(path):
    import tensorflow as tf

    floats, flags = tf.TensorSpec([None, 2]), tf.TensorSpec([None, 1], tf.int32)

    @tf.function
    def run(x, total, start):
        new = x + total + 10.0 * tf.cast(start, tf.float32)
        return {"y": new * 2.0, "new_total": new}

    module = tf.Module()
    module.run = run
    tf.saved_model.save(module, path, signatures=run.get_concrete_function(x=floats, total=floats, start=flags))


def mxnet(path):
    import mxnet as mx

    x, total, start = (mx.sym.Variable(name) for name in ("x", "total", "start"))
    new = mx.sym.broadcast_add(x + total, start * 10.0, name="new_total")
    mx.sym.Group([mx.sym.elemwise_add(new, new, name="y"), new]).save(path)
    mx.nd.save(path.replace("-symbol.json", "-0000.params"), {"arg:unused": mx.nd.ones((1,))})


def tflite(path):
    described = importlib.util.spec_from_file_location("make_tflite", TFLITE)
    make = importlib.util.module_from_spec(described)
    described.loader.exec_module(make)
    file = make.File()
    graph = file.graph()
    x, total, start = (graph.input(name, [-1, size]) for name, size in (("x", 2), ("total", 2), ("start", 1)))
    begun, added = graph.tensor("begun", [-1, 1]), graph.tensor("added", [-1, 2])
    ten = graph.constant(make.np.array([10.0], make.np.float32))
    graph.run(make.Op.MUL, [start, ten], [begun], make.schema.MulOptionsT())
    graph.add(x, total, added)
    new, y = graph.output("new_total", [-1, 2]), graph.output("y", [-1, 2])
    graph.add(added, begun, new)
    graph.add(new, new, y)
    graph.signature("serving_default")
    Path(path).write_bytes(file.bytes())


if __name__ == "__main__":
    sys.path.pop(0)
    globals()[sys.argv[1]](sys.argv[2])
