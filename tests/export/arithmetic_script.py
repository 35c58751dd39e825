"""Run arithmetic that converters get wrong through the steps of exports. Print name → what is wrong, if anything.

PYTHON arithmetic_script.py FOLDER     in export-torch's environment: write ONNX files and PyTorch's answers
PYTHON arithmetic_script.py FOLDER     then in export-tf's environment: convert those and models of TensorFlow and
                                       ONNX, and compare what ONNX Runtime, LiteRT and TensorFlow compute
"""

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from runtimes.contract import TensorSpec, datatype_of  # noqa: E402
from runtimes.conversion import Refused, Step  # noqa: E402

Arrays = dict[str, np.ndarray]
RANDOM = np.random.default_rng(5)
WHOLE = np.array([[-128, -50, -9, -8, -7, -1], [0, 1, 6, 7, 8, 127]])
WIDE = np.array([[-200.0, -104.5, -89.0, -20.0, -18.0, -3.5], [0.0, 1e-6, 2.5, 30.0, 90.0, 200.0]], np.float32)
STEPS = RANDOM.normal(size=(2, 4, 6)).astype(np.float32)
PICTURE = RANDOM.normal(size=(1, 3, 6, 5)).astype(np.float32)


def converter(name: str) -> Any:
    package = types.ModuleType("modelport_converter")
    package.__path__ = [str(ROOT / "runtimes" / "converters" / name)]
    sys.modules[package.__name__] = package
    return importlib.import_module("modelport_converter.convert")


def step(source: Path, destination: Path, inputs: Arrays, outputs: Arrays, **options: Any) -> Step:
    """Return an export's step. The first dimension of every array is the batch."""
    specs = [
        tuple(TensorSpec(name, datatype_of(array.dtype), (-1, *array.shape[1:])) for name, array in arrays.items())
        for arrays in (inputs, outputs)
    ]
    shapes = {name: (1, *array.shape[1:]) for name, array in inputs.items()}
    return Step(str(source), str(destination), specs[0], specs[1], "serving_default", shapes, [], [], options, {})


def wrong(right: Arrays, made: Arrays) -> list[str]:
    found = []
    for name, array in right.items():
        scale = np.abs(array[np.isfinite(array)]).max(initial=1e-30)
        same = array.shape == made[name].shape and np.allclose(made[name], array, rtol=0, atol=2e-6 * scale)
        found += [] if same else [name]
    return found


# ---- PyTorch


def write_torch(folder: Path) -> None:
    import torch
    from torch.nn import functional

    class Whole(torch.nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return (
                x // 3, x // -7, x % 7, x % -7, x >> 1, x >> 7, x >> y, x << 2, -(-x // 4),
                torch.div(x, 4, rounding_mode="trunc"), torch.div(x, -4, rounding_mode="floor"), (x.float() / 2).long(),
            )  # fmt: skip

    class Wide(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return (
                functional.logsigmoid(x), functional.softplus(x), functional.softplus(x, 2.0), torch.log_softmax(x, -1),
                torch.logsumexp(x, -1), x // 3, torch.trunc(x * 1e20), torch.frac(x),
                torch.div(x, 7, rounding_mode="trunc"), functional.mish(x), functional.hardswish(x), torch.sigmoid(x),
            )  # fmt: skip

    torch.set_grad_enabled(False)
    torch.manual_seed(2)
    layer = torch.nn.TransformerEncoderLayer
    # In eval mode, each of these is traced as one operator.
    encoder = torch.nn.TransformerEncoder(layer(6, 2, 8, activation="gelu", batch_first=True), 2)
    attention, last = (
        torch.nn.MultiheadAttention(6, 2, batch_first=True),
        layer(6, 2, 8, batch_first=True, norm_first=True),
    )

    class Transformer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.attention, self.last = encoder, attention, last

        def forward(self, x: Any) -> Any:
            y = self.encoder(x)
            return (*self.attention(y, y, y), self.last(y))

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = last

        def forward(self, x: Any) -> Any:
            return (self.last(x, src_key_padding_mask=x[:, :, 0] > 1),)

    convert = converter("torch")
    for name, module, given in (
        ("whole", Whole(), (WHOLE, np.abs(WHOLE) % 5)),
        ("whole32", Whole(), (WHOLE.astype(np.int32), np.abs(WHOLE).astype(np.int32) % 5)),
        ("wide", Wide(), (WIDE,)),
        ("transformer", Transformer(), (STEPS,)),
        ("masked", Masked(), (STEPS,)),
    ):
        module.eval()
        tensors = tuple(torch.from_numpy(array) for array in given)
        torch.jit.save(torch.jit.trace(module, tensors), folder / f"{name}.pt")
        inputs = dict(zip("xy", given, strict=False))
        outputs = {f"o{place:02}": value.numpy() for place, value in enumerate(module(*tensors))}
        example = folder / f"{name}.example.npz"
        np.savez(example, **inputs)
        (folder / f"{name} made").mkdir()
        made = step(folder / f"{name}.pt", folder / f"{name} made" / "model.onnx", inputs, outputs)
        try:
            convert.torchscript_to_onnx(made._replace(examples=[str(example)]))
        except Refused as error:
            print(json.dumps({name: str(error)}))
        else:
            if name == "transformer":
                gather(folder / f"{name} made" / "model.onnx", convert)
            (folder / f"{name} made" / "model.onnx").rename(folder / f"{name}.onnx")
            save(folder, name, inputs, outputs)


def save(folder: Path, name: str, inputs: Arrays, outputs: Arrays) -> None:
    np.savez(folder / f"{name}.npz", **{f"in {k}": v for k, v in inputs.items()}, **{f"out {k}": v for k, v in outputs.items()})  # fmt: skip  # noqa: E501


def read(folder: Path, name: str) -> tuple[Arrays, Arrays]:
    with np.load(folder / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return {k[3:]: v for k, v in arrays.items() if k[:3] == "in "}, {
        k[4:]: v for k, v in arrays.items() if k[:4] == "out "
    }


def gather(path: Path, convert: Any) -> None:
    """Store each tensor in its own file, as torch.onnx does for models of 2 GB and more, and gather them again."""
    import onnx

    onnx.save(onnx.load(path), path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    assert len(list(path.parent.iterdir())) > 10
    convert.gather_weights(str(path))
    assert list(path.parent.iterdir()) == [path], "tensors of less than 1 KiB are in the file itself"


# ---- TensorFlow and ONNX


def write_tensorflow(folder: Path, convert: Any) -> None:
    """Convert SavedModels to ONNX: integers of 8, 32 and 64 bits, and floats."""
    import tensorflow as tf

    def whole(x: Any) -> dict[str, Any]:
        counts = [tf.constant(count, x.dtype) for count in (1, 7)]
        values = [x // 3, x // -7, x % 7, x % -7, *(tf.bitwise.right_shift(x, count) for count in counts)]
        values += [tf.bitwise.left_shift(x, counts[0])] if x.dtype != tf.int8 else []
        return {f"o{place:02}": value for place, value in enumerate(values)}

    def wide(x: Any) -> dict[str, Any]:
        values = [x // 3, x % 7, tf.math.log_sigmoid(x), tf.math.softplus(x), tf.nn.log_softmax(x)]
        return {f"o{place:02}": value for place, value in enumerate(values)}

    for name, function, x in (
        ("tf_whole8", whole, WHOLE.astype(np.int8)),
        ("tf_whole32", whole, WHOLE.astype(np.int32)),
        ("tf_whole64", whole, WHOLE),
        ("tf_wide", wide, WIDE),
    ):
        module = tf.Module()
        module.served = tf.function(function, input_signature=[tf.TensorSpec([None, 6], x.dtype, "x")])
        tf.saved_model.save(module, str(folder / name), signatures=module.served)
        outputs = {key: value.numpy() for key, value in module.served(x).items()}
        convert.savedmodel_to_onnx(step(folder / name, folder / f"{name}.onnx", {"x": x}, outputs))
        save(folder, name, {"x": x}, outputs)


def write_onnx(folder: Path) -> None:
    from onnx import helper, numpy_helper, save_model

    node, info = helper.make_node, helper.make_tensor_value_info
    kernel = numpy_helper.from_array(RANDOM.normal(size=(3, 1, 4, 4)).astype(np.float32), "w")
    three = numpy_helper.from_array(np.array([3], np.int32), "three")
    models: dict[str, tuple[Any, ...]] = {
        "kernels": (
            [
                node("HardSwish", ["x"], ["hard"]),
                node("Round", ["x"], ["round"]),
                node("ArgMax", ["x"], ["most"], axis=1, keepdims=0),
                node("ArgMin", ["x"], ["least"], axis=1),
            ],
            {"x": WIDE / 10},
            {"hard": (1, 2), "round": (1, 2), "most": (7, 1), "least": (7, 2)},
        ),
        "division": ([node("Div", ["x", "three"], ["y"])], {"x": WHOLE.astype(np.int32)}, {"y": (6, 2)}),
        "twins": (
            [node("Exp", ["x"], ["a"]), node("Identity", ["a"], ["b"]), node("Identity", ["a"], ["c"])],
            {"x": WIDE / 100},
            {"b": (1, 2), "a": (1, 2), "c": (1, 2)},
        ),
        "pins": (
            [node("ConvTranspose", ["x", "w"], ["y"], group=3, strides=[2, 2], pads=[1, 1, 1, 1])],
            {"x": PICTURE},
            {"y": (1, 4)},
        ),
    }
    for name, (nodes, inputs, outputs) in models.items():
        graph = helper.make_graph(
            nodes, name,
            [info(key, helper.np_dtype_to_tensor_dtype(a.dtype), ["n", *a.shape[1:]]) for key, a in inputs.items()],
            [info(key, kind, [None] * rank) for key, (kind, rank) in outputs.items()], [kernel, three],
        )  # fmt: skip
        path = str(folder / f"{name}.onnx")
        save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        save(folder, name, inputs, by_onnx_runtime(path, inputs))


def by_onnx_runtime(path: str, inputs: Arrays) -> Arrays:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def by_litert(path: str, inputs: Arrays) -> Arrays:
    from ai_edge_litert.interpreter import Interpreter

    return dict(Interpreter(path).get_signature_runner("serving_default")(**inputs))


def by_tensorflow(path: str, inputs: Arrays, outputs: Arrays) -> Arrays:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    given = {f"input_{place}": tf.constant(array) for place, array in enumerate(inputs.values())}
    answer = loaded.signatures["serving_default"](**given)
    return {name: answer[f"output_{place}"].numpy() for place, name in enumerate(outputs)}


def main(folder: Path) -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        pass
    else:
        return write_torch(folder)
    convert = converter("tf")
    write_tensorflow(folder, convert)
    write_onnx(folder)
    found: dict[str, Any] = {}
    for name in ("whole", "whole32", "wide", "transformer", "tf_whole8", "tf_whole32", "tf_whole64", "tf_wide"):
        inputs, outputs = read(folder, name)
        found[f"{name} onnx"] = wrong(outputs, by_onnx_runtime(str(folder / f"{name}.onnx"), inputs))
    for name, targets in {
        "whole32": "tflite savedmodel", "wide": "tflite savedmodel", "kernels": "savedmodel", "division": "savedmodel",
        "twins": "savedmodel", "pins": "tflite",
    }.items():  # fmt: skip
        inputs, outputs = read(folder, name)
        options = {"batch": 1} if name == "pins" else {}
        for target in targets.split():
            made = folder / f"{name}.{target}"
            getattr(convert, f"onnx_to_{target}")(step(folder / f"{name}.onnx", made, inputs, outputs, **options))
            answers = by_litert(str(made), inputs) if target == "tflite" else by_tensorflow(str(made), inputs, outputs)
            found[f"{name} {target}"] = wrong(outputs, answers)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
