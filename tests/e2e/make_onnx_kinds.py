"""Make ONNX models as tools leave them: `PYTHON make_onnx_kinds.py REPOSITORY`, for a Python with onnx and onnxruntime.

Writes, as JSON, to standard output: model → its input, and what ONNX Runtime answers to each of its rows alone.
"""

import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model

FLOAT, STRING, INT64 = TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT64
MICROSOFT, EXTENSIONS = "com.microsoft", "ai.onnx.contrib"
RANDOM = np.random.default_rng(0)
ROWS = 12
WORDS = ["hello worlds", "bye", "Äpfel hello", ""] * 3


def weight(name, *shape, kind=np.float32):
    values = RANDOM.uniform(-1, 1, shape) if kind == np.float32 else RANDOM.integers(0, 255, shape)
    return numpy_helper.from_array(values.astype(kind), name)


def model_of(nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    sets = [helper.make_opsetid(*each) for each in (("", 17), (MICROSOFT, 1), (EXTENSIONS, 1), ("ai.onnx.ml", 3))]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def value(name, *shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def mlp():
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["i"]),
        helper.make_node("Relu", ["i"], ["j"]),
        helper.make_node("MatMul", ["j", "c"], ["k"]),
        helper.make_node("Softmax", ["k"], ["y"]),
    ]
    weights = [weight("a", 8, 16), weight("b", 16), weight("c", 16, 4)]
    return model_of(nodes, [value("x", "n", 8)], [value("y", "n", 4)], weights)


def pictures():
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["h", "h"], ["i"]),
        helper.make_node("Sigmoid", ["i"], ["j"]),
        helper.make_node("Concat", ["j", "h"], ["k"], axis=1),
        helper.make_node("GlobalAveragePool", ["k"], ["l"]),
        helper.make_node("Flatten", ["l"], ["m"]),
        helper.make_node("Gemm", ["m", "b"], ["y"]),
    ]
    weights = [weight("a", 4, 2, 3, 3), weight("b", 8, 3)]
    return model_of(nodes, [value("x", "n", 2, 6, 6)], [value("y", "n", 3)], weights)


def transformer():
    """The operators into which exporters of PyTorch split a layer normalization and a Gelu."""
    scalars = {"two": 2.0, "epsilon": 1e-5, "root": 2**0.5, "one": 1.0, "half": 0.5}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("Add", ["p", "x"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["mean"], axes=[-1]),
        helper.make_node("Sub", ["s", "mean"], ["d"]),
        helper.make_node("Pow", ["d", "two"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["variance"], axes=[-1]),
        helper.make_node("Add", ["variance", "epsilon"], ["v"]),
        helper.make_node("Sqrt", ["v"], ["w"]),
        helper.make_node("Div", ["d", "w"], ["z"]),
        helper.make_node("Mul", ["z", "gamma"], ["g"]),
        helper.make_node("Add", ["g", "beta"], ["normal"]),
        helper.make_node("Div", ["normal", "root"], ["r"]),
        helper.make_node("Erf", ["r"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["f"]),
        helper.make_node("Mul", ["normal", "f"], ["t"]),
        helper.make_node("Mul", ["t", "half"], ["y"]),
    ]
    weights = [weight("a", 8, 8), weight("gamma", 8), weight("beta", 8)]
    weights += [numpy_helper.from_array(np.array(number, np.float32), name) for name, number in scalars.items()]
    return model_of(nodes, [value("x", "n", 3, 8)], [value("y", "n", 3, 8)], weights)


def contrib(operator, shape, weights, outputs=(), **attributes):
    """One operator of ONNX Runtime's own domain, on x and constants; None is an input that is left out."""
    names = ["" if each is None else f"w{number}" for number, each in enumerate(weights)]
    given = [
        numpy_helper.from_array(numpy_helper.to_array(each), name)
        for name, each in zip(names, weights, strict=True)
        if each is not None
    ]
    node = helper.make_node(operator, ["x", *names], ["y"], domain=MICROSOFT, **attributes)
    return model_of([node], [value("x", "n", *shape)], [value("y", "n", *outputs or shape)], given)


CONTRIB = {
    "fused_matmul": contrib("FusedMatMul", (3, 8), [weight("", 3, 8)], (3, 3), alpha=0.5, transB=1),
    "gelu": contrib("Gelu", (8,), []),
    "fast_gelu": contrib("FastGelu", (8,), [weight("", 8)]),
    "bias_gelu": contrib("BiasGelu", (8,), [weight("", 8)]),
    "skip_layer_normalization": contrib(
        "SkipLayerNormalization", (3, 8), [weight("", 1, 3, 8), weight("", 8), weight("", 8)]
    ),
    "attention": contrib("Attention", (3, 8), [weight("", 8, 24), weight("", 24)], num_heads=2),
    "matmul_n_bits": contrib(
        "MatMulNBits", (32,), [weight("", 4, 1, 16, kind=np.uint8), weight("", 4)], (4,), K=32, N=4, bits=4,
        block_size=32,
    ),
    "dynamic_matmul": contrib(
        "DynamicQuantizeMatMul", (8,), [weight("", 8, 4, kind=np.uint8), numpy_helper.from_array(np.float32(0.1))], (4,)
    ),
}  # fmt: skip


class Calibration(CalibrationDataReader):
    def __init__(self, samples):
        self._left = [{"x": sample[None]} for sample in samples]

    def get_next(self):
        return self._left.pop() if self._left else None


def write(repository, name, model, file="model.onnx"):
    path = Path(repository, name, "1", file)
    path.parent.mkdir(parents=True)
    onnx.save(model, str(path))
    return str(path)


def save_as_ort(source, repository, name, *entries):
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    path = Path(repository, name, "1", "model.ort")
    path.parent.mkdir(parents=True)
    settings.optimized_model_filepath = str(path)
    for key, text in (("session.save_model_format", "ORT"), *entries):
        settings.add_session_config_entry(key, text)
    ort.InferenceSession(source, settings, providers=["CPUExecutionProvider"])
    assert path.read_bytes()[4:8] == b"ORTM"
    return str(path)


def classifier():
    scores = {"coefficients": [0.5, -1, 1, 0.25], "intercepts": [0.1, 0.2], "classlabels_ints": [0, 1]}
    node = helper.make_node("LinearClassifier", ["x"], ["y", "scores"], domain="ai.onnx.ml", **scores)
    return model_of([node], [value("x", "n", 2)], [value("y", "n", kind=INT64)])


def of_any_width():
    """Make a product with a matrix of four rows, whose input may have any number of columns."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    return model_of(nodes, [value("x", "n", "m")], [value("y", "n", 3)], [weight("w", 4, 3)])


def make(repository, scratch):
    """Return the paths of models that ONNX Runtime itself runs."""
    plain, images = write(scratch, "mlp", mlp()), write(scratch, "pictures", pictures())
    made = {name: write(repository, name, model) for name, model in CONTRIB.items()}
    made["ort"] = save_as_ort(plain, repository, "ort")
    runtime = ("optimization.minimal_build_optimizations", "save")
    made["ort_with_runtime_optimizations"] = save_as_ort(plain, repository, "ort_with_runtime_optimizations", runtime)
    for name, form in (("quantised_operators", QuantFormat.QOperator), ("quantised_qdq", QuantFormat.QDQ)):
        made[name] = write(repository, name, pictures())
        samples = RANDOM.uniform(0, 1, (8, 2, 6, 6)).astype(np.float32)
        quantize_static(images, made[name], Calibration(samples), quant_format=form)
    made["quantised_dynamically"] = write(repository, "quantised_dynamically", mlp())
    quantize_dynamic(plain, made["quantised_dynamically"])
    options = FusionOptions("bert")
    options.enable_shape_inference = False  # it needs sympy
    source = write(scratch, "transformer", transformer())
    fused = optimize_model(source, "bert", 2, 8, optimization_options=options, opt_level=0).model
    assert [node.op_type for node in fused.graph.node] == ["MatMul", "SkipLayerNormalization", "Gelu"], fused.graph.node
    made["optimised"] = write(repository, "optimised", fused)
    made["openvino"] = write(repository, "openvino", mlp())
    made["openvino_without_operators"] = write(repository, "openvino_without_operators", classifier())
    write(repository, "openvino_of_any_width", of_any_width())
    return made


def make_tokenizers(repository):
    text, vocabulary = value("x", "n", kind=STRING), "[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\nhello\nworld\n##s\nbye\n"
    upper = helper.make_node("StringUpper", ["x"], ["y"], domain=EXTENSIONS)
    length = helper.make_node("StringLength", ["x"], ["y"], domain=EXTENSIONS)
    tokens = helper.make_node(
        "BertTokenizer", ["x"], ["ids", "types", "mask"], domain=EXTENSIONS, vocab_file=vocabulary, do_lower_case=1
    )
    write(repository, "upper", model_of([upper], [text], [value("y", "n", kind=STRING)]))
    write(repository, "length", model_of([length], [text], [value("y", "n", kind=INT64)]))
    ids = [value(name, "tokens", kind=INT64) for name in ("ids", "types", "mask")]
    write(repository, "tokenizer", model_of([tokens], [text], ids))
    # Pads to the longest text of a run.
    words = {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz1Ġ")} | {"<|endoftext|>": 28}
    padding = helper.make_node(
        "GPT2Tokenizer", ["x"], ["ids", "mask"], domain=EXTENSIONS, vocab=json.dumps(words), merges="#version: 0.2\n"
    )
    padded = [value(name, "n", "tokens", kind=INT64) for name in ("ids", "mask")]
    write(repository, "padding_tokenizer", model_of([padding], [text], padded))
    write(repository, "lacks_extension", model_of([upper], [text], [value("y", "n", kind=STRING)]))


def main(repository):
    expected = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in make(repository, scratch).items():
            settings = ort.SessionOptions()
            settings.log_severity_level = 4
            session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
            shape = [ROWS] + [size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape[1:]]
            x = RANDOM.uniform(-1, 1, shape).astype(np.float32) * np.arange(1, ROWS + 1).reshape(
                -1, *[1] * len(shape[1:])
            )
            x = x.astype(np.float32)
            alone = [session.run(["y"], {"x": row[None]})[0][0] for row in x]
            expected[name] = {"x": x.tolist(), "y": np.array(alone).tolist()}
    make_tokenizers(repository)
    json.dump(expected, sys.stdout)


logging.disable(logging.WARNING)
main(sys.argv[1])
