"""Programs of about ten lines that run an export, with its names, datatypes and shapes filled in."""

import json
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from runtimes.contract import DATATYPES, numpy_dtype

_SWIFT = {
    "FP16": "Float16", "FP32": "Float", "FP64": "Double", "BOOL": "Bool", "INT8": "Int8", "INT16": "Int16",
    "INT32": "Int32", "INT64": "Int64", "UINT8": "UInt8", "UINT16": "UInt16", "UINT32": "UInt32", "UINT64": "UInt64",
}  # fmt: skip
_TORCH = {
    "FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "bfloat16", "BOOL": "bool", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32",
    "UINT64": "uint64",
}  # fmt: skip
# Of ExecuTorch's Kotlin API, in its own words.
_KOTLIN_DTYPES = {
    "FP16": "HALF", "FP32": "FLOAT", "FP64": "DOUBLE", "BF16": "BFLOAT16", "BOOL": "BOOL", "INT8": "INT8",
    "INT16": "INT16", "INT32": "INT32", "INT64": "INT64", "UINT8": "UINT8", "UINT16": "UINT16", "UINT32": "UINT32",
    "UINT64": "UINT64",
}  # fmt: skip
_ONNX = {
    "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BF16": "BFLOAT16", "FP8_E4M3FN": "FLOAT8E4M3FN",
    "FP8_E5M2": "FLOAT8E5M2", "BOOL": "BOOL", "INT4": "INT4", "INT8": "INT8", "INT16": "INT16", "INT32": "INT32",
    "INT64": "INT64", "UINT4": "UINT4", "UINT8": "UINT8", "UINT16": "UINT16", "UINT32": "UINT32", "UINT64": "UINT64",
}  # fmt: skip
_TFJS = {"FP32": "float32", "BOOL": "bool"}
# Keywords of these languages, and names that the snippets themselves use.
_RESERVED = {
    *("model", "interpreter", "session", "runner", "results", "file", "tf", "np", "ort", "in", "is", "as", "val"),
    *("let", "var", "if", "for", "class", "fun", "def", "import", "return", "print", "input", "lambda", "object"),
}


class Variable(NamedTuple):
    """A tensor in a program.

    name      of the program's variable; tensor: of the model's tensor
    declared  the tensor's shape as text, -1 for dynamic sizes
    shape     with 1 for every dynamic size
    """

    name: str
    tensor: str
    datatype: str
    declared: str
    shape: tuple[int, ...]

    @property
    def about(self) -> str:
        return f"{self.datatype} {self.declared}"

    @property
    def size(self) -> int:
        return prod(self.shape)


def variables(
    inputs: Sequence[Sequence[Any]], outputs: Sequence[Sequence[Any]]
) -> tuple[list[Variable], list[Variable]]:
    """Return unique variables for a report's inputs and outputs."""
    taken = set(_RESERVED)
    found = []
    for tensor, datatype, shape in (*inputs, *outputs):
        name = _identifier(tensor)
        while name in taken:
            name += "_"
        taken.add(name)
        sizes = list(shape or ())
        found.append(Variable(name, tensor, datatype, str(sizes), tuple(1 if size < 0 else size for size in sizes)))
    return found[: len(inputs)], found[len(inputs) :]


def _identifier(tensor: str) -> str:
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in tensor).strip("_") or "tensor"
    return f"tensor_{name}" if name[0].isdigit() else name


def _quoted(text: str) -> str:
    """Return a string literal of Python, JavaScript and Swift."""
    return json.dumps(text)


def _printed(outputs: Sequence[Variable]) -> list[str]:
    """Return the statements of Python that print results, which are in order."""
    return [f"print(results[{index}])  # {_quoted(each.tensor)}: {each.about}" for index, each in enumerate(outputs)]


def javascript(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    feeds = ", ".join(f"{_quoted(each.tensor)}: {each.name}" for each in inputs)
    tensors = ", ".join(_quoted(each.tensor) for each in outputs)
    names = ", ".join(each.name for each in outputs)
    if len(outputs) > 1:
        names, tensors = f"[{names}]", f"[{tensors}]"
    return [
        "import * as tf from '@tensorflow/tfjs';  // npm install @tensorflow/tfjs",
        "",
        "const model = await tf.loadGraphModel('./model.json');",
        *(
            f"const {each.name} = tf.zeros({list(each.shape)}, '{_TFJS.get(each.datatype, 'int32')}');  // {each.about}"
            for each in inputs
        ),
        f"const {names} = await model.executeAsync({{{feeds}}}, {tensors});",
        *(f"console.log(await {each.name}.data());  // {each.about}" for each in outputs),
    ]


def has_swift(tensors: Sequence[Variable]) -> bool:
    """Whether Swift has types for all of them: it has none for BF16."""
    return all(each.datatype in _SWIFT for each in tensors)


def onnxruntime(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    if any(DATATYPES[each.datatype].typestr is None for each in (*inputs, *outputs)):
        return _onnxruntime_values(inputs, outputs)
    tensors = ", ".join(_quoted(each.tensor) for each in outputs)
    return [
        "import numpy as np",
        "import onnxruntime as ort  # pip install onnxruntime",
        "",
        'session = ort.InferenceSession("model.onnx")',
        *_zeros(inputs),
        f"results = session.run([{tensors}], {_feeds(inputs)})",
        *_printed(outputs),
    ]


def _onnxruntime_values(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    """For datatypes that numpy lacks: values of ONNX Runtime, and bits of outputs."""
    feeds = "{" + ", ".join(f"{_quoted(each.tensor)}: {each.name}" for each in inputs) + "}"
    return [
        "import onnx  # pip install onnx",
        "import onnxruntime as ort  # pip install onnxruntime",
        "",
        'session = ort.InferenceSession("model.onnx")',
        *(
            f"{each.name} = ort.OrtValue.ortvalue_from_shape_and_type({list(each.shape)}, "
            f"onnx.TensorProto.{_ONNX[each.datatype]})  # {each.about}; not initialized"
            for each in inputs
        ),
        f"results = session.run_with_ort_values([{', '.join(_quoted(each.tensor) for each in outputs)}], {feeds})",
        *(
            f"print(results[{index}].data_type(), results[{index}].shape())  # {_quoted(each.tensor)}: {each.about}"
            for index, each in enumerate(outputs)
        ),
    ]


def litert(inputs: Sequence[Variable], outputs: Sequence[Variable], signature: str) -> list[str]:
    return [
        "import numpy as np",
        "from ai_edge_litert.interpreter import Interpreter  # pip install ai-edge-litert",
        "",
        f'runner = Interpreter("model.tflite").get_signature_runner({_quoted(signature)})',
        *_zeros(inputs),
        f"results = runner(**{_feeds(inputs)})",
        *(f"print(results[{_quoted(each.tensor)}])  # {each.about}" for each in outputs),
    ]


def executorch(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    return [
        "import torch",
        "from executorch.runtime import Runtime  # pip install executorch",
        "",
        'method = Runtime.get().load_program("model.pte").load_method("forward")',
        *(
            f"{each.name} = torch.zeros({each.shape}, dtype=torch.{_TORCH[each.datatype]})  # {each.about}"
            for each in inputs
        ),
        f"results = method.execute([{', '.join(each.name for each in inputs)}])",
        *_printed(outputs),
    ]


def executorch_kotlin(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    values = ", ".join(f"EValue.from({each.name})" for each in inputs)
    return [
        '// implementation("org.pytorch:executorch-android:1.5.1"); model.pte has to be a file of the device',
        "import org.pytorch.executorch.*",
        "",
        'val model = Module.load("/data/local/tmp/model.pte")',
        *(
            f"val {each.name} = Tensor.zeros(longArrayOf({', '.join(map(str, each.shape))}), "
            f"DType.{_KOTLIN_DTYPES[each.datatype]})  // {each.about}"
            for each in inputs
        ),
        f"val results = model.forward({values})",
        *(f"val {each.name} = results[{index}].toTensor()  // {each.about}" for index, each in enumerate(outputs)),
    ]


def executorch_swift(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    return [
        "import ExecuTorch  // Swift package github.com/pytorch/executorch, with the library backend_xnnpack",
        "",
        'let model = Module(filePath: Bundle.main.path(forResource: "model", ofType: "pte")!)',
        *(
            f"let {each.name} = Tensor<{_SWIFT[each.datatype]}>.zeros(shape: {list(each.shape)})  // {each.about}"
            for each in inputs
        ),
        f"let results = try model.forward([{', '.join(each.name for each in inputs)}])",
        *(
            f"let {each.name}: Tensor<{_SWIFT[each.datatype]}> = results[{index}].tensor()!  // {each.about}"
            for index, each in enumerate(outputs)
        ),
    ]


def _zeros(inputs: Sequence[Variable]) -> list[str]:
    return [
        f"{each.name} = np.zeros({each.shape}, np.{numpy_dtype(each.datatype).name})  # {each.about}".replace(
            "np.bool)", "np.bool_)"
        )
        for each in inputs
    ]


def _feeds(inputs: Sequence[Variable]) -> str:
    return "{" + ", ".join(f"{_quoted(each.tensor)}: {each.name}" for each in inputs) + "}"


def kotlin(inputs: Sequence[Variable], outputs: Sequence[Variable], signature: str) -> list[str]:
    feeds, results = (
        ", ".join(f"{_kotlin(each.tensor)} to {each.name}" for each in side) for side in (inputs, outputs)
    )
    return [
        '// implementation("com.google.ai.edge.litert:litert:1.4.0"); put model.tflite into src/main/assets',
        'val file = context.assets.open("model.tflite").readBytes()',
        "val model = ByteBuffer.allocateDirect(file.size).order(ByteOrder.nativeOrder()).put(file)",
        "val interpreter = org.tensorflow.lite.Interpreter(model)",
        *(
            f"val {each.name} = ByteBuffer.allocateDirect({each.size * DATATYPES[each.datatype].itemsize})"
            f".order(ByteOrder.nativeOrder())  // {each.about}"
            for each in (*inputs, *outputs)
        ),
        f"interpreter.runSignature(mapOf({feeds}), mapOf({results}), {_kotlin(signature)})",
        *(f"{each.name}.rewind()  // contains the result" for each in outputs),
    ]


def _kotlin(text: str) -> str:
    return _quoted(text).replace("$", "\\$")


def swift(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    """Swift's API has no names: it uses indices, and the export has its tensors in the served order."""
    lines = [
        "import TensorFlowLite  // pod 'TensorFlowLiteSwift'; add model.tflite to the app's resources",
        'let file = Bundle.main.path(forResource: "model", ofType: "tflite")!',
        "let interpreter = try Interpreter(modelPath: file)",
        "try interpreter.allocateTensors()",
    ]
    for index, each in enumerate(inputs):
        kind = _SWIFT[each.datatype]
        zero = "false" if kind == "Bool" else "0"
        lines += [
            f"let {each.name} = [{kind}](repeating: {zero}, count: {each.size})  // {each.about}",
            f"try interpreter.copy({each.name}.withUnsafeBytes {{ Data($0) }}, toInputAt: {index})",
        ]
    lines.append("try interpreter.invoke()")
    for index, each in enumerate(outputs):
        array = f"Array($0.bindMemory(to: {_SWIFT[each.datatype]}.self))"
        lines += [
            f"let {each.name} = try interpreter.output(at: {index}).data",
            f"print({each.name}.withUnsafeBytes {{ {array} }})  // {each.about}",
        ]
    return lines
