"""Programs of ten lines that run an export, with its own names, datatypes and shapes."""

import json
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from runtimes.contract import DATATYPES, numpy_dtype

_SWIFT = {
    "FP16": "Float16", "FP32": "Float", "FP64": "Double", "BOOL": "Bool", "INT8": "Int8", "INT16": "Int16",
    "INT32": "Int32", "INT64": "Int64", "UINT8": "UInt8", "UINT16": "UInt16", "UINT32": "UInt32", "UINT64": "UInt64",
}  # fmt: skip
_TFJS = {"FP32": "float32", "BOOL": "bool"}
# Of the languages below, and what the snippets themselves call something.
_TAKEN = {
    *("model", "interpreter", "session", "runner", "results", "file", "tf", "np", "ort", "in", "is", "as", "val"),
    *("let", "var", "if", "for", "class", "fun", "def", "import", "return", "print", "input", "lambda", "object"),
}


class Variable(NamedTuple):
    """A tensor, and what a program calls it. told: its shape as it is; shape: one row, and 1 for what else is open."""

    name: str
    tensor: str
    datatype: str
    told: str
    shape: tuple[int, ...]

    @property
    def about(self) -> str:
        return f"{self.datatype} {self.told}"

    @property
    def size(self) -> int:
        return prod(self.shape)


def variables(
    inputs: Sequence[Sequence[Any]], outputs: Sequence[Sequence[Any]]
) -> tuple[list[Variable], list[Variable]]:
    """Of a report's inputs and outputs."""
    taken = set(_TAKEN)
    made = []
    for tensor, datatype, shape in (*inputs, *outputs):
        name = _identifier(tensor)
        while name in taken:
            name += "_"
        taken.add(name)
        sizes = list(shape or ())
        made.append(Variable(name, tensor, datatype, str(sizes), tuple(1 if size < 0 else size for size in sizes)))
    return made[: len(inputs)], made[len(inputs) :]


def _identifier(tensor: str) -> str:
    made = "".join(c if c.isascii() and c.isalnum() else "_" for c in tensor).strip("_") or "tensor"
    return f"tensor_{made}" if made[0].isdigit() else made


def _quoted(text: str) -> str:
    """A text as Python, JavaScript and Swift write it."""
    return json.dumps(text)


def javascript(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    given = ", ".join(f"{_quoted(each.tensor)}: {each.name}" for each in inputs)
    wanted = ", ".join(_quoted(each.tensor) for each in outputs)
    names = ", ".join(each.name for each in outputs)
    if len(outputs) > 1:
        names, wanted = f"[{names}]", f"[{wanted}]"
    return [
        "import * as tf from '@tensorflow/tfjs';  // npm install @tensorflow/tfjs",
        "",
        "const model = await tf.loadGraphModel('./model.json');",
        *(
            f"const {each.name} = tf.zeros({list(each.shape)}, '{_TFJS.get(each.datatype, 'int32')}');  // {each.about}"
            for each in inputs
        ),
        f"const {names} = await model.executeAsync({{{given}}}, {wanted});",
        *(f"console.log(await {each.name}.data());  // {each.about}" for each in outputs),
    ]


def onnxruntime(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    wanted = ", ".join(_quoted(each.tensor) for each in outputs)
    return [
        "import numpy as np",
        "import onnxruntime as ort  # pip install onnxruntime",
        "",
        'session = ort.InferenceSession("model.onnx")',
        *_zeros(inputs),
        f"results = session.run([{wanted}], {_given(inputs)})",
        *(f"print(results[{place}])  # {_quoted(e.tensor)}: {e.about}" for place, e in enumerate(outputs)),
    ]


def litert(inputs: Sequence[Variable], outputs: Sequence[Variable], signature: str) -> list[str]:
    return [
        "import numpy as np",
        "from ai_edge_litert.interpreter import Interpreter  # pip install ai-edge-litert",
        "",
        f'runner = Interpreter("model.tflite").get_signature_runner({_quoted(signature)})',
        *_zeros(inputs),
        f"results = runner(**{_given(inputs)})",
        *(f"print(results[{_quoted(each.tensor)}])  # {each.about}" for each in outputs),
    ]


def _zeros(inputs: Sequence[Variable]) -> list[str]:
    return [
        f"{each.name} = np.zeros({each.shape}, np.{numpy_dtype(each.datatype).name})  # {each.about}".replace(
            "np.bool)", "np.bool_)"
        )
        for each in inputs
    ]


def _given(inputs: Sequence[Variable]) -> str:
    return "{" + ", ".join(f"{_quoted(each.tensor)}: {each.name}" for each in inputs) + "}"


def kotlin(inputs: Sequence[Variable], outputs: Sequence[Variable], signature: str) -> list[str]:
    given, got = (", ".join(f"{_kotlin(each.tensor)} to {each.name}" for each in side) for side in (inputs, outputs))
    return [
        '// implementation("com.google.ai.edge.litert:litert:1.4.0"); model.tflite lies in src/main/assets',
        'val file = context.assets.open("model.tflite").readBytes()',
        "val model = ByteBuffer.allocateDirect(file.size).order(ByteOrder.nativeOrder()).put(file)",
        "val interpreter = org.tensorflow.lite.Interpreter(model)",
        *(
            f"val {each.name} = ByteBuffer.allocateDirect({each.size * DATATYPES[each.datatype].itemsize})"
            f".order(ByteOrder.nativeOrder())  // {each.about}"
            for each in (*inputs, *outputs)
        ),
        f"interpreter.runSignature(mapOf({given}), mapOf({got}), {_kotlin(signature)})",
        *(f"{each.name}.rewind()  // holds the answer" for each in outputs),
    ]


def _kotlin(text: str) -> str:
    return _quoted(text).replace("$", "\\$")


def swift(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    """By place: it has the tensors in the served order."""
    lines = [
        "import TensorFlowLite  // pod 'TensorFlowLiteSwift'; model.tflite is among the app's resources",
        'let file = Bundle.main.path(forResource: "model", ofType: "tflite")!',
        "let interpreter = try Interpreter(modelPath: file)",
        "try interpreter.allocateTensors()",
    ]
    for place, each in enumerate(inputs):
        kind = _SWIFT[each.datatype]
        zero = "false" if kind == "Bool" else "0"
        lines += [
            f"let {each.name} = [{kind}](repeating: {zero}, count: {each.size})  // {each.about}",
            f"try interpreter.copy({each.name}.withUnsafeBytes {{ Data($0) }}, toInputAt: {place})",
        ]
    lines.append("try interpreter.invoke()")
    for place, each in enumerate(outputs):
        array = f"Array($0.bindMemory(to: {_SWIFT[each.datatype]}.self))"
        lines += [
            f"let {each.name} = try interpreter.output(at: {place}).data",
            f"print({each.name}.withUnsafeBytes {{ {array} }})  // {each.about}",
        ]
    return lines
