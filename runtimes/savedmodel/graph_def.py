"""GraphDefs: frozen graphs of TensorFlow 1, in which variables have become constants.

A GraphDef has no signature. Its inputs and outputs are those that the model's configuration names, or else the
placeholders, and the nodes that no other node reads (`ends.py`).
"""

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import op_def_registry

from runtimes.checks import quoted
from runtimes.contract import LoadError, LoadOptions
from runtimes.needs import with_needs
from runtimes.redaction import reason_of

from . import ends
from .session import new_session, of_session
from .signatures import LoadedSignature

# Operators that fill a table before the first run.
_FILLS = (
    "InitializeTable", "InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "InitializeTableV2",
    "LookupTableImport", "LookupTableImportV2",
)  # fmt: skip
_TABLES = ("HashTable", "HashTableV2")
_VARIABLES = ("AutoReloadVariable", "VarHandleOp", "Variable", "VariableV2")
# Operators that wait for what something else puts into a queue, or reads from files.
_WAITS = ("IteratorGetNext", "QueueDequeue", "ReaderRead")


class OpenGraph(NamedTuple):
    """A graph in a session, in which its tables are filled.

    inputs    name → tensor
    outputs   name → tensor
    optional  inputs for which the graph itself has default values
    fills     the operations that fill the tables
    """

    session: Any
    inputs: Dict[str, Any]
    outputs: Dict[str, Any]
    optional: Sequence[str]
    fills: Sequence[Any]


def load_graph_def(options: LoadOptions) -> LoadedSignature:
    """Return the signature of the file. Raises LoadError."""
    inputs, outputs = ({spec.name: spec.name for spec in specs} for specs in (options.inputs, options.outputs))
    return of_graph_def(read_graph_def(options.artifact), options.threads, inputs, outputs)


def of_graph_def(
    definition: Any, threads: int, inputs: Mapping[str, str] = {}, outputs: Mapping[str, str] = {}
) -> LoadedSignature:
    """Return the signature of a graph, with the arguments of `open_graph`. Raises LoadError."""
    opened = open_graph(definition, threads, inputs, outputs)
    found = of_session(opened.session, opened.inputs, opened.outputs, dict.fromkeys(opened.optional))
    fed = {tensor.name: name for name, tensor in opened.inputs.items() if name not in opened.optional}
    needs = {
        name: [fed[each] for each in ends.reached(tensor, fed) if each in fed]
        for name, tensor in opened.outputs.items()
    }
    return found._replace(signature=with_needs(found.signature, needs))


def read_graph_def(path: str) -> Any:
    """Raises LoadError."""
    definition = graph_pb2.GraphDef()
    try:
        with open(path, "rb") as file:
            definition.ParseFromString(file.read())
    except DecodeError:
        raise LoadError("this file is not a GraphDef, or is damaged") from None
    return definition


def open_graph(definition: Any, threads: int, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> OpenGraph:
    """Open a graph in a session of its own. Raises LoadError.

    inputs, outputs  name → tensor, which is called "node" or "node:1". An input need not be a placeholder. If there are
                     none, they are found in the graph
    """
    _check_operators(definition)
    graph = tf.Graph()
    with graph.as_default():
        try:
            tf.graph_util.import_graph_def(_movable(definition), name="")
        except (ValueError, tf.errors.OpError) as error:
            raise LoadError("TensorFlow cannot read this graph: %s" % reason_of(error)) from error
    served = ends.named(graph, "output", outputs) or ends.unread(graph)
    fed = ends.named(graph, "input", inputs)
    needed = ends.needed(served.values(), {tensor.name for tensor in fed.values()})
    fills = [operation for operation in graph.get_operations() if operation.type in _FILLS]
    _check_needed(needed, fills)
    missing = [each for each in needed if each.type in ends.PLACEHOLDERS]
    if fed and missing:
        raise LoadError(
            "the inputs %s are declared, but the outputs %s also need the placeholders %s: declare these as well"
            % (quoted(inputs), quoted(served), quoted(sorted(each.name for each in missing)))
        )
    if not fed:
        fed = {each.name: each.outputs[0] for each in needed if each.type in (*ends.PLACEHOLDERS, ends.WITH_DEFAULT)}
    optional = [name for name, tensor in fed.items() if tensor.op.type == ends.WITH_DEFAULT]
    # What is declared is an input like any other. A default value that all inputs have is for the graph's construction.
    if inputs or len(optional) == len(fed):
        optional = []
    fills = [each for each in fills if each.inputs[0].op in needed]
    session = new_session(graph, threads)
    try:
        session.run(fills)
    except tf.errors.OpError as error:
        raise LoadError("a table of this graph cannot be filled: %s" % reason_of(error)) from error
    return OpenGraph(session, fed, served, optional, fills)


def _check_operators(definition: Any) -> None:
    """Raise LoadError if the graph has operators that TensorFlow alone lacks."""
    functions = {function.signature.name: function.node_def for function in definition.library.function}
    used = {node.op for nodes in [definition.node, *functions.values()] for node in nodes}
    lacking = sorted(op for op in used if op not in functions and op_def_registry.get(op) is None)
    if lacking:
        raise LoadError("this graph needs the operators %s, which TensorFlow alone does not have" % quoted(lacking))


def _movable(definition: Any) -> Any:
    """Return a copy without the devices and colocations of the cluster that trained the model."""
    copy = graph_pb2.GraphDef()
    copy.CopyFrom(definition)
    for node in copy.node:
        node.device = ""
        node.attr.pop("_class", None)
    return copy


def _check_needed(needed: Set[Any], fills: Sequence[Any]) -> None:
    """Raise LoadError if what the outputs need is not in the graph."""
    if variables := _names(needed, _VARIABLES):
        raise LoadError(
            "this graph reads the variables %s, whose values are in a checkpoint: freeze the graph, or save it as a "
            "SavedModel" % _some(variables)
        )
    if waiting := [each.name for each in needed if each.type.startswith(_WAITS)]:
        raise LoadError(
            "this graph waits at %s for a queue or for files: declare the tensor to feed in its place as an input"
            % _some(sorted(waiting))
        )
    filled = {each.inputs[0].op.name for each in fills}
    if empty := [name for name in _names(needed, _TABLES) if name not in filled]:
        raise LoadError(
            "this graph reads the tables %s, but lacks the nodes that fill them: name these as initializer_nodes when "
            "you freeze the graph" % _some(empty)
        )


def _names(operations: Iterable[Any], types: Sequence[str]) -> List[str]:
    return sorted(each.name for each in operations if each.type in types)


def _some(names: Sequence[str]) -> str:
    return quoted(names[:3]) + (" and %d more" % (len(names) - 3) if len(names) > 3 else "")
