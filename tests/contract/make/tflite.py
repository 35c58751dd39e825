"""Make small LiteRT models, each with a case: `PYTHON tflite.py FOLDER`, in the runtime's environment.

That environment has no converter, so the files are built with the schema that LiteRT contains.
"""

import json
import sys
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Op, Type = schema.BuiltinOperator, schema.TensorType
FLOAT, HALF, INT8, INT32, INT64, STRING = Type.FLOAT32, Type.FLOAT16, Type.INT8, Type.INT32, Type.INT64, Type.STRING


class Graph:
    """A subgraph under construction. Tensors are identified by their indices."""

    def __init__(self, file):
        self.file, self.made = file, schema.SubGraphT()
        self.made.tensors, self.made.operators, self.made.inputs, self.made.outputs = [], [], [], []

    def tensor(self, name, shape, datatype=FLOAT, *, ranked=True, variable=False, data=None):
        """Add a tensor. In `shape`, -1 is any size."""
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.hasRank, tensor.isVariable = name, datatype, ranked, variable
        tensor.shape = [max(size, 1) for size in shape]
        if -1 in shape:
            tensor.shapeSignature = list(shape)
        tensor.buffer = self.file.buffer(data)
        self.made.tensors.append(tensor)
        return len(self.made.tensors) - 1

    def constant(self, array):
        datatype = {"f": FLOAT, "i": INT32}[array.dtype.kind]
        return self.tensor(f"constant{len(self.made.tensors)}", array.shape, datatype, data=array.tobytes())

    def input(self, *arguments, **keywords):
        self.made.inputs.append(self.tensor(*arguments, **keywords))
        return self.made.inputs[-1]

    def output(self, *arguments, **keywords):
        self.made.outputs.append(self.tensor(*arguments, **keywords))
        return self.made.outputs[-1]

    def run(self, operator, inputs, outputs, options=None):
        """Add an operator: a built-in one, or a custom one by its name."""
        made = schema.OperatorT()
        made.opcodeIndex = self.file.operator(operator)
        made.inputs, made.outputs = inputs, outputs
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self.made.operators.append(made)

    def add(self, one, two, result):
        self.run(Op.ADD, [one, two], [result], schema.AddOptionsT())

    def signature(self, key):
        """Add a signature `key` whose names are those of the tensors after the last slash."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, self.file.made.subgraphs.index(self.made)
        signature.inputs = [self._entry(number) for number in self.made.inputs]
        signature.outputs = [self._entry(number) for number in self.made.outputs]
        self.file.made.signatureDefs.append(signature)

    def _entry(self, number):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = self.made.tensors[number].name.split("/")[-1], number
        return entry


class File:
    """A model under construction: `graphs`, then `write`."""

    def __init__(self):
        self.made = schema.ModelT()
        self.made.version, self.made.description = 3, "made for a test"
        self.made.operatorCodes, self.made.subgraphs, self.made.signatureDefs = [], [], []
        self.made.buffers = [schema.BufferT()]  # the first is empty by convention

    def graph(self):
        graph = Graph(self)
        self.made.subgraphs.append(graph.made)
        return graph

    def buffer(self, data):
        if data is None:
            return 0
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self.made.buffers.append(buffer)
        return len(self.made.buffers) - 1

    def operator(self, operator):
        code = schema.OperatorCodeT()
        code.builtinCode = Op.CUSTOM if isinstance(operator, str) else operator
        code.deprecatedBuiltinCode = min(code.builtinCode, Op.PLACEHOLDER_FOR_GREATER_OP_CODES)
        code.customCode, code.version = operator if isinstance(operator, str) else None, 1
        self.made.operatorCodes.append(code)
        return len(self.made.operatorCodes) - 1

    def bytes(self):
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.made.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def write(root, name, content, case):
    folder = Path(root, name)
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(content.bytes() if isinstance(content, File) else content)
    (folder / "case.json").write_text(json.dumps({"artifact": "model.tflite", **case}))


def adder(*signatures, shape=(-1, 3), datatype=FLOAT):
    """Make y = x + x, with a signature for each of these keys."""
    file = File()
    graph = file.graph()
    x = graph.input("x", shape, datatype)
    graph.add(x, x, graph.output("y", shape, datatype))
    for key in signatures:
        graph.signature(key)
    return file


def dense():
    """Make a dense layer with a dynamic batch."""
    file = File()
    graph = file.graph()
    x = graph.input("dense_input", [-1, 4])
    weights = graph.constant(np.arange(12, dtype=np.float32).reshape(3, 4))
    bias = graph.constant(np.array([1, 2, 3], np.float32))
    y = graph.output("StatefulPartitionedCall:0", [-1, 3])
    graph.run(Op.FULLY_CONNECTED, [x, weights, bias], [y], schema.FullyConnectedOptionsT())
    return file


def twins():
    """Make two outputs of one shape, which the subgraph and the signature have in different orders."""
    file = File()
    graph = file.graph()
    x = graph.input("x", [-1, 2])
    second, first = graph.output("b/second", [-1, 2]), graph.output("a/first", [-1, 2])
    graph.add(x, x, first)
    graph.run(Op.NEG, [x], [second], schema.NegOptionsT())
    graph.signature("serving_default")
    file.made.signatureDefs[0].outputs.reverse()
    return file


def several():
    """Make three signatures: two of one subgraph, and one of another, which has two inputs."""
    file = adder("zwei", "doubled")
    graph = file.graph()
    a, b = graph.input("a", [-1], INT64), graph.input("b", [-1], INT64)
    graph.add(a, b, graph.output("sum", [-1], INT64))
    graph.signature("serving_default")
    return file


def fixed_inside():
    """Make a batch that is dynamic in name only: the graph reshapes to one row."""
    file = File()
    graph = file.graph()
    x, shape = graph.input("x", [-1, 4]), graph.constant(np.array([1, 2, 2], np.int32))
    options = schema.ReshapeOptionsT()
    options.newShape = [1, 2, 2]
    graph.run(Op.RESHAPE, [x, shape], [graph.output("y", [-1, 2, 2])], options)
    return file


def one_operator(operator, inputs, outputs, options=None, datatypes=(FLOAT, FLOAT), **keywords):
    file = File()
    graph = file.graph()
    taken = [graph.input(name, shape, datatypes[0]) for name, shape in inputs]
    given = [graph.output(name, shape, datatypes[1], **keywords) for name, shape in outputs]
    graph.run(operator, taken, given, options)
    return file


def state():
    """Make a recurrent layer: h = x + h, where h is kept from one run to the next."""
    file = File()
    graph = file.graph()
    x = graph.input("x", [1, 1, 2])
    one, none = graph.constant(np.eye(2, dtype=np.float32)), graph.constant(np.zeros(2, np.float32))
    hidden = graph.tensor("hidden", [1, 2], variable=True)
    options = schema.SequenceRNNOptionsT()
    y = graph.output("y", [1, 1, 2])
    graph.run(Op.UNIDIRECTIONAL_SEQUENCE_RNN, [x, one, one, none, hidden], [y], options)
    return file


def variable(graph):
    """Make a variable that all subgraphs share, initialized once by the file's second subgraph."""
    options = schema.CallOnceOptionsT()
    options.initSubgraphIndex = 1
    graph.run(Op.CALL_ONCE, [], [], options)
    return handle(graph)


def handle(graph):
    options = schema.VarHandleOptionsT()
    options.container, options.sharedName = "", "weights"
    made = graph.tensor("handle", [], Type.RESOURCE)
    graph.run(Op.VAR_HANDLE, [], [made], options)
    return made


def training():
    """Make a signature y = x + weights, one that changes the weights, and one that changes them in a branch."""
    file = File()
    predict, initial, train, branch, perhaps = (file.graph() for _ in range(5))
    initial.run(Op.ASSIGN_VARIABLE, [handle(initial), initial.constant(np.array([1, 2], np.float32))], [])

    x, weights = predict.input("x", [-1, 2]), predict.tensor("weights", [2])
    predict.run(Op.READ_VARIABLE, [variable(predict)], [weights], schema.ReadVariableOptionsT())
    predict.add(x, weights, predict.output("y", [-1, 2]))
    predict.signature("serving_default")

    x, weights, changed = train.input("x", [-1, 2]), train.tensor("weights", [2]), train.tensor("changed", [2])
    resource = variable(train)
    train.run(Op.READ_VARIABLE, [resource], [weights], schema.ReadVariableOptionsT())
    train.add(weights, weights, changed)
    train.run(Op.ASSIGN_VARIABLE, [resource, changed], [], schema.AssignVariableOptionsT())
    train.add(x, weights, train.output("loss", [-1, 2]))
    train.signature("train")

    x = branch.input("x", [-1, 2])
    branch.run(Op.ASSIGN_VARIABLE, [handle(branch), branch.constant(np.array([5, 5], np.float32))], [])
    branch.add(x, x, branch.output("y", [-1, 2]))

    x, yes = perhaps.input("x", [-1, 2]), perhaps.tensor("yes", [], Type.BOOL, data=b"\1")
    options = schema.IfOptionsT()
    options.thenSubgraphIndex = options.elseSubgraphIndex = 3
    variable(perhaps)
    perhaps.run(Op.IF, [yes, x], [perhaps.output("y", [-1, 2])], options)
    perhaps.signature("perhaps")
    return file


def noisy():
    """Make y = x + noise."""
    file = File()
    graph = file.graph()
    x, noise = graph.input("x", [-1, 2]), graph.tensor("noise", [1, 2])
    graph.run(Op.RANDOM_UNIFORM, [graph.constant(np.array([1, 2], np.int32))], [noise], schema.RandomOptionsT())
    graph.add(x, noise, graph.output("y", [-1, 2]))
    return file


def partly_custom():
    """Make two signatures, one of which needs an operator that LiteRT lacks."""
    file = adder("serving_default")
    graph = file.graph()
    graph.run("FlexNoSuch", [graph.input("x", [1])], [graph.output("y", [1])])
    graph.signature("aaa")
    return file


def gathering():
    """Look rows up by their numbers, which can be too high."""
    file = File()
    graph = file.graph()
    rows = graph.constant(np.arange(6, dtype=np.float32).reshape(3, 2))
    numbers = graph.input("numbers", [-1], INT32)
    graph.run(Op.GATHER, [rows, numbers], [graph.output("y", [-1, 2])], schema.GatherOptionsT())
    return file


def tables():
    """Look ids up in a table, and halve and clip a number. Inputs between 2 and 14 are not clipped."""
    file = File()
    graph = file.graph()
    words, two = graph.constant(np.arange(40000, dtype=np.float32)), graph.constant(np.array(2, np.float32))
    ids, a = graph.input("ids", [-1], INT32), graph.input("a", [-1])
    row, half, above = (graph.tensor(name, [-1]) for name in ("row", "half", "above"))
    graph.run(Op.GATHER, [words, ids], [row], schema.GatherOptionsT())
    graph.run(Op.DIV, [a, two], [half], schema.DivOptionsT())
    graph.run(Op.MAXIMUM, [half, graph.constant(np.array(1, np.float32))], [above], schema.MaximumMinimumOptionsT())
    below = graph.tensor("below", [-1])
    graph.run(Op.MINIMUM, [graph.constant(np.array(7, np.float32)), above], [below], schema.MaximumMinimumOptionsT())
    graph.add(row, below, graph.output("y", [-1]))
    return file


def filling():
    """Make a model that returns as many ones as requested."""
    file = File()
    graph = file.graph()
    size, one = graph.input("size", [-1], INT32), graph.constant(np.array(1, np.float32))
    graph.run(Op.FILL, [size, one], [graph.output("y", [-1, -1])], schema.FillOptionsT())
    return file


def quantised():
    """Make y = max(x, 0) on quantized integers whose scale is an eighth."""
    file = File()
    graph = file.graph()
    ends = [graph.input("x", [-1, 2], INT8), graph.output("y", [-1, 2], INT8)]
    for number in ends:
        scale = schema.QuantizationParametersT()
        scale.scale, scale.zeroPoint = [0.125], [0]
        graph.made.tensors[number].quantization = scale
    graph.run(Op.RELU, ends[:1], ends[1:])
    return file


def unnamed():
    """Make tensors without a name, and two with the same name."""
    file = File()
    graph = file.graph()
    x, y = graph.input("", [-1, 2]), graph.input("x", [-1, 2])
    graph.add(x, y, graph.output("same", [-1, 2]))
    graph.run(Op.NEG, [x], [graph.output("same", [-1, 2])], schema.NegOptionsT())
    return file


def strings(shape=(-1,)):
    """Make a model that returns its input strings with an additional last dimension."""
    file = File()
    graph = file.graph()
    x, axis = graph.input("x", shape, STRING), graph.constant(np.array([-1], np.int32))
    graph.run(Op.EXPAND_DIMS, [x, axis], [graph.output("y", [*shape, 1], STRING)], schema.ExpandDimsOptionsT())
    return file


def small_types():
    """Make outputs of the datatypes that numpy lacks, and one of a datatype that the protocol lacks."""
    file = File()
    graph = file.graph()
    for name, kind in (("b", Type.BFLOAT16), ("i", Type.INT4), ("u", Type.UINT4)):
        wide = graph.tensor(name + "_wide", [-1, 3], Type.FLOAT32)
        graph.run(Op.CAST, [graph.input(name, [-1, 3], kind)], [wide], schema.CastOptionsT())
        twice = graph.tensor(name + "_twice", [-1, 3], Type.FLOAT32)
        graph.run(Op.ADD, [wide, wide], [twice], schema.AddOptionsT())
        graph.run(Op.CAST, [twice], [graph.output(name + "2", [-1, 3], kind)], schema.CastOptionsT())
    graph.run(Op.CAST, [wide], [graph.output("complex", [-1, 3], Type.COMPLEX64)], schema.CastOptionsT())
    return file


def main(root):
    def expects(name, datatype, shape):
        return {"inputs": [["x", datatype, shape]], "outputs": [[name, datatype, shape]]}

    rows = {"values": {"dense_input": [[1, 0, 0, 0], [0, 0, 0, 1]]}, "bad": [{"dense_input": [[1.0] * 5]}]}
    rows["expected_values"] = {"StatefulPartitionedCall:0": [[1, 6, 11], [4, 9, 14]]}
    write(root, "dense", dense(), rows)
    write(
        root,
        "fixed",
        adder(shape=(2, 3)),
        {"expected_signature": expects("y", "FP32", [2, 3]), "bad": [{"x": [[1.0, 2.0, 3.0]]}]},
    )
    declared = {"inputs": [["x", "", [-1, 3]]], "outputs": [["y", "", [-1, 3]]]}
    write(
        root,
        "declared",
        adder(shape=(1, 3)),
        {"options": declared, "expected_signature": expects("y", "FP32", [-1, 3])},
    )
    twin = {"values": {"x": [[1, 2]]}, "expected_values": {"first": [[2, 4]], "second": [[-1, -2]]}}
    twin["operators"] = {"a/first": "Add (ND)", "b/second": "Negate (NC)"}
    write(root, "twins", twins(), twin)
    integers = {"inputs": [["a", "INT64", [-1]], ["b", "INT64", [-1]]], "outputs": [["sum", "INT64", [-1]]]}
    pair = [["OUTPUT__0", "FP32", [-1, 2]], ["OUTPUT__1", "FP32", [-1, 2]]]
    pair = {"inputs": [["INPUT__0", "FP32", [-1, 2]], ["x", "FP32", [-1, 2]]], "outputs": pair}
    write(root, "unnamed", unnamed(), {"expected_signature": pair})
    write(root, "several", several(), {"expected_signature": integers, "values": {"a": [2**40, 2], "b": [1, 1]}})
    write(
        root,
        "other_signature",
        several(),
        {"signature": "doubled", "expected_signature": expects("y", "FP32", [-1, 3])},
    )
    write(root, "without_default", adder("b", "a"), {"signature": "a"})
    write(root, "part_left_out", partly_custom(), {"expected_signature": expects("y", "FP32", [-1, 3])})
    eighths = {"values": {"x": [[1, -2]]}, "expected_signature": expects("y", "INT8", [-1, 2])}
    write(root, "int8", quantised(), eighths)
    none = {"options": {"inputs": [["x", "FP32", [0, 3]]], "outputs": [["y", "FP32", [0, 3]]]}}
    write(root, "no_rows", adder(), none)
    column = {"expected_signature": {"outputs": [["y", "BYTES", [-1, 1]]]}}
    texts = {"values": {"x": ["a", "grün", "", "end\0", "\0"]}, "strings": True}
    texts["expected_values"] = {"y": [["a"], ["grün"], [""], ["end\0"], ["\0"]]}
    write(root, "strings", strings(), {**texts, **column})
    for name, text in {"string_scalar": "end\0", "string_scalar_zero": "\0", "string_scalar_long": "grün" * 99}.items():
        case = {"values": {"x": text}, "expected_values": {"y": [text]}, "strings": True}
        write(root, name, strings([]), case)
    write(root, "string_scalar_empty", strings([]), {"values": {"x": ""}, "fails": "Unsupported"})
    scalar = one_operator(Op.NEG, [("x", [])], [("y", [])], schema.NegOptionsT())
    write(root, "scalar", scalar, {"values": {"x": 2.5}, "expected_signature": expects("y", "FP32", [])})
    unranked = one_operator(Op.NEG, [("x", [-1, 2])], [("y", [])], schema.NegOptionsT(), ranked=False)
    write(root, "unknown_rank", unranked, {"expected_signature": {"outputs": [["y", "FP32", None]]}})
    values: dict[str, list[list[float]]] = {
        "b": [[1.0, -0.5, 2.0**126], [0.0, 2.0**-126, 255.0]],
        "i": [[1, -4, 3], [0, -1, 2]],
        "u": [[1, 7, 3], [0, 4, 2]],
    }
    twice = {name + "2": [[2 * value for value in row] for row in rows] for name, rows in values.items()}
    kinds = {"b": "BF16", "i": "INT4", "u": "UINT4"}
    signature = {
        "inputs": [[name, kind, [-1, 3]] for name, kind in kinds.items()],
        "outputs": [[name + "2", kind, [-1, 3]] for name, kind in kinds.items()],
    }
    small = {"values": values, "expected_values": twice, "expected_signature": signature, "refused": ["complex"]}
    write(root, "small_types", small_types(), small)
    two_rows = {"bad": [{"x": [[1.0] * 4] * 2}], "not_batchable": True}
    write(root, "fixed_inside", fixed_inside(), {"values": {"x": [[1, 2, 3, 4]]}, **two_rows})
    write(root, "gathering", gathering(), {"values": {"numbers": [2, 0]}, "bad": [{"numbers": [7]}, {"numbers": [-1]}]})
    ends = {"values": {"ids": [39999, 0], "a": [4, 99]}, "expected_values": {"y": [40001, 7]}}
    beyond = {"bad": [{"ids": [40000, 0]}, {"ids": [-1, 0]}], "ranges": {"ids": [0, 39999, True], "a": [2, 14, False]}}
    ran = {"row": "GATHER", "half": "Divide (ND)", "y": "Add (ND)"}
    write(root, "tables", tables(), {**ends, **beyond, "operators": ran})
    # More memory than an address space has, which LiteRT refuses without a reason, and a negative size.
    faults = [
        ["model.tflite", {"size": [1 << 24, 1 << 24]}, "memory", ""],
        ["model.tflite", {"size": [-1, 2]}, "client", "Fill dimensions must be >= 0"],
    ]
    write(root, "faults", filling(), {"faults": faults})
    write(root, "state", state(), {"values": {"x": [[[1, 2]]]}, "operators": "unknown"})
    keeps = {
        "options": {"parameters": {"keep_state": True}},
        "stateful": True,
        "analysis": {"writes": "keeps its values"},
    }
    write(root, "keeps_state", state(), {"values": {"x": [[[1, 2]]]}, **keeps})
    first = {"values": {"x": [[1, 2]]}, "expected_values": {"y": [[2, 4]]}}
    write(root, "changes_no_state", training(), {**first, "writing": ["perhaps", "train"]})
    for name in ["train", "perhaps"]:
        case = {"signature": name, "stateful": True, "analysis": {"writes": "ASSIGN_VARIABLE"}}
        write(root, "state_" + name, training(), case)
    write(root, "noisy", noisy(), {"stateful": True, "analysis": {"mixes": "RANDOM_UNIFORM"}})
    write(root, "parameter_unknown", adder(), {"options": {"parameters": {"keeps": True}}, "load_error": True})
    write(root, "on_a_card", adder(), {"options": {"device": "cuda"}, "load_error": True})
    write(root, "custom", one_operator("NoSuch", [("x", [1])], [("y", [1])]), {"load_error": True})
    write(root, "flex", one_operator("FlexNoSuch", [("x", [1])], [("y", [1])]), {"load_error": True})
    write(root, "float8", adder(datatype=Type.FLOAT8_E5M2), {"load_error": "for which LiteRT has no operators"})
    write(root, "garbage", b"no model at all" * 9, {"load_error": True})
    write(root, "truncated", dense().bytes()[:-40], {"load_error": True})
    write(root, "empty", b"", {"load_error": True})


if __name__ == "__main__":
    main(sys.argv[1])
