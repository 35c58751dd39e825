"""The rules for PyTorch's operators that show the range of an input's numbers."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from runtimes.contract import InputRange, TensorSpec
from runtimes.dataflow.graph import Graph, Model, Node
from runtimes.dataflow.ranges import (
    Ranges,
    added,
    by_operator,
    cut_above,
    cut_below,
    divided,
    multiplied,
    negated,
    ranges_of,
    selected,
    subtracted,
)

from . import export, script
from .operators import AS_ROWS, LIST, REPLACED, UNPACK, WRITTEN

_Sizes = Sequence[Optional[int]]

_PASSED = """
    to _to_copy type_as long int short char byte half float double bfloat16 contiguous clone detach detach_copy
    alias alias_copy lift_fresh lift_fresh_copy lift positive cpu cuda data requires_grad resolve_conj resolve_neg
    dequantize Int Float IntImplicit FloatImplicit ScalarImplicit item prim::NumToTensor prim::unchecked_cast
    prim::unchecked_unwrap_optional prim::profile tensor scalar_tensor
"""
_SAME = """
    view view_copy reshape reshape_copy _unsafe_view _reshape_alias flatten unflatten ravel squeeze unsqueeze
    permute transpose t movedim swapaxes expand expand_copy broadcast_to repeat tile repeat_interleave select
    select_copy narrow split split_with_sizes split_with_sizes_copy unsafe_split chunk unsafe_chunk tensor_split
    unbind flip roll round floor ceil trunc masked_fill
"""
_END = (1 << 31) - 1  # from here on, the end of a slice is the end of the dimension
_CODES = {12: (-128, 127), 13: (0, 255)}  # 8-bit quantized types by TorchScript's numbers


class TorchRanges(Ranges):
    """Also follows lists, and the sizes of tensors that are not constants, if the graph contains them."""

    def __init__(self, *known: Any) -> None:
        super().__init__(*known)
        self.lists: Dict[str, List[str]] = {}  # list → its elements
        self.sizes = {}  # type: Dict[str, _Sizes]

    def rows_of(self, name: str, axis: int = 0) -> Optional[int]:
        sizes = self.sizes_of(name)
        size = sizes[axis] if -len(sizes) <= axis < len(sizes) else None
        return size if isinstance(size, int) and size >= 0 else None

    def sizes_of(self, name: str) -> _Sizes:
        """Return the sizes; () if they are unknown."""
        return self._constants[name].dims if name in self._constants else self.sizes.get(name, ())

    def renamed(self, name: str, output: str) -> None:
        """Record that the output is this tensor or list."""
        self.moved(name, output)
        for known in (self._constants, self.lists, self.sizes):  # type: Dict[str, Any]
            if name in known:
                known.setdefault(output, known[name])

    def numbers(self, name: str) -> _Sizes:
        """Return the elements of a list of numbers, None for each that is unknown."""
        if name in self.lists:
            return [_whole(self.number(each)) for each in self.lists[name]]
        return self._constants[name].contents or () if name in self._constants else ()

    def inside(self, graphs: Sequence[Graph], outputs: Sequence[str]) -> None:
        """Follow the graphs inside a node, one of which produces its outputs."""
        for graph in graphs:
            for tensor in graph.constants:
                self.constant(tensor.name, tensor)
            self.nodes(graph.nodes)
        for output, given in zip(outputs, zip(*(graph.outputs for graph in graphs))):
            if len({self._lines.get(name) for name in given}) == 1:
                self.moved(given[0], output)


def of_scripted(module: Any, specs: Sequence[Tuple[str, TensorSpec]]) -> Dict[str, InputRange]:
    """Return the range of each input that has one.

    specs: the declarations of the arguments of `forward` that get a value, by argument.
    """
    graph, tensors = script.Reader(module).graph(module.inlined_graph)
    arguments = [argument.name for argument in module.forward.schema.arguments[1:]]
    declared = dict(specs)
    given = {tensor: declared[name] for tensor, name in zip(tensors, arguments) if name in declared}
    sizes = {tensor: spec.shape for tensor, spec in given.items() if spec.shape is not None}
    return _ranges(graph, {tensor: spec.name for tensor, spec in given.items()}, sizes)


def of_exported(exported: Any) -> Dict[str, InputRange]:
    graph, sizes = export.Reader(exported).graph()
    inputs = {name: name for name in sizes}
    for node in graph.nodes:
        if node.attributes.get("shape"):
            sizes[node.outputs[0]] = node.attributes["shape"]
    return _ranges(graph, inputs, sizes)


def _ranges(graph: Graph, inputs: Dict[str, str], sizes: Dict[str, Any]) -> Dict[str, InputRange]:
    def begun(*known: Any) -> TorchRanges:
        ranges = TorchRanges(*known)
        ranges.sizes.update(sizes)
        return ranges

    return ranges_of(Model(graph, {}, {}), _RULES, inputs, {each.name: each for each in graph.constants}, begun)


def _whole(number: Optional[float]) -> Optional[int]:
    return None if number is None or number != int(number) else int(number)


def _given(node: Node) -> Dict[str, str]:
    """Return the arguments that are present, by name."""
    return {name: given for name, given in zip(node.attributes.get("names") or (), node.inputs) if given}


def _rows(ranges: TorchRanges, table: str, axis: Optional[float], ids: str) -> None:
    """Record that the ids index the table along an axis."""
    ranges.picks(ids, None if axis is None else ranges.rows_of(table, int(axis)))


def _passed(ranges: TorchRanges, node: Node) -> None:
    """Handle an operator that returns its input in the same shape."""
    ranges.renamed(node.inputs[0], node.outputs[0])


def _replaced(ranges: TorchRanges, node: Node) -> None:
    ranges.renamed(node.inputs[1], node.outputs[0])


def _written(ranges: TorchRanges, node: Node) -> None:
    ranges.copied(node, contents=False)


def _list(ranges: TorchRanges, node: Node) -> None:
    ranges.lists[node.outputs[0]] = node.inputs


def _unpacked(ranges: TorchRanges, node: Node) -> None:
    """Handle the unpacking of a list. Parts of a single tensor contain its numbers, whichever part it is."""
    parts = ranges.lists.get(node.inputs[0])
    if parts is None:
        ranges.same(node)
    elif node.operator in (UNPACK, "prim::TupleUnpack"):
        for part, output in zip(parts, node.outputs):
            ranges.renamed(part, output)
    else:
        index = _whole(ranges.number(node.inputs[1]))
        if index is not None and -len(parts) <= index < len(parts):
            ranges.renamed(parts[index], node.outputs[0])


def _made(ranges: TorchRanges, node: Node) -> None:
    """Handle the creation of a tensor with given sizes."""
    sizes = ranges.numbers(_given(node).get("size", ""))
    if sizes:
        ranges.sizes.setdefault(node.outputs[0], sizes)


def _sliced(ranges: TorchRanges, node: Node) -> None:
    """Handle a slice along one dimension, whose size is unknown afterwards unless the slice covers all of it."""
    ranges.same(node)
    given = _given(node)
    axis, start, end, step = (ranges.number(given.get(name, "")) for name in ("dim", "start", "end", "step"))
    sizes = list(ranges.sizes_of(node.inputs[0]))
    whole = not start and (end is None or end >= _END) and step in (None, 1)
    if axis is not None and -len(sizes) <= axis < len(sizes):
        sizes[int(axis)] = sizes[int(axis)] if whole else None
        ranges.sizes.setdefault(node.outputs[0], sizes)


def _either(ranges: TorchRanges, node: Node) -> None:
    chosen, graphs = ranges.number(node.inputs[0]), node.attributes["graphs"]
    ranges.inside(graphs if chosen is None else [graphs[0 if chosen else 1]], node.outputs)


def _loop(ranges: TorchRanges, node: Node) -> None:
    """Handle a loop: follow the outer tensors that it uses and does not change."""
    ranges.inside(node.attributes["graphs"], ())


def _embedded(ranges: TorchRanges, node: Node) -> None:
    given = _given(node)
    _rows(ranges, given["weight"], 0, given["indices"])


def _scattered(ranges: TorchRanges, node: Node) -> None:
    given = _given(node)
    _rows(ranges, given["self"], ranges.number(given.get("dim", "")), given.get("index") or given["indices"])


def _gathered(ranges: TorchRanges, node: Node) -> None:
    ranges.same(node)
    _scattered(ranges, node)


def _indexed(ranges: TorchRanges, node: Node) -> None:
    """Handle indexing: each index of the list indexes its own dimension, except masks."""
    if node.operator == "index":
        ranges.same(node)
    dtypes = (node.attributes.get("dtypes") or (None, None))[1]
    for axis, name in enumerate(ranges.lists.get(node.inputs[1], ())):
        if not dtypes or str(dtypes[axis]) not in ("torch.bool", "torch.uint8"):
            _rows(ranges, node.inputs[0], axis, name)


def _one_hot(ranges: TorchRanges, node: Node) -> None:
    """Handle a one-hot encoding, which refuses all numbers that are not classes."""
    count = _whole(ranges.number(_given(node).get("num_classes", "")))
    ranges.picks(node.inputs[0], count if count != -1 else None)


def _clamped(ranges: TorchRanges, node: Node) -> None:
    given, name, output = _given(node), node.inputs[0], node.outputs[0]
    low, high = (ranges.number(given.get(end) or given.get(end + "_val", "")) for end in ("min", "max"))
    if low is not None and high is not None:
        ranges.between(name, low, high)
    else:
        ranges.cut(name, output, low if high is None else high, high is not None)


def _relu(ranges: TorchRanges, node: Node) -> None:
    if node.operator == "relu6":
        ranges.between(node.inputs[0], 0, 6)
    else:
        ranges.cut(node.inputs[0], node.outputs[0], 0, upper=False)


def _quantized(ranges: TorchRanges, node: Node) -> None:
    given = _given(node)
    scale, zero, low, high, code = (
        ranges.number(given.get(name, "")) for name in ("scale", "zero_point", "quant_min", "quant_max", "dtype")
    )
    if low is None or high is None:
        low, high = _CODES.get(code, (None, None))  # type: ignore[arg-type]
    if scale and zero is not None and low is not None and high is not None:
        ranges.between(node.inputs[0], (low - zero) * scale, (high - zero) * scale)


def _of_two(rule: Any) -> Callable[[TorchRanges, Node], None]:
    """Return a rule for an operator with more arguments than its two operands, from one for the two."""

    def applied(ranges: TorchRanges, node: Node) -> None:
        given = _given(node)
        if "alpha" in given and ranges.number(given["alpha"]) != 1:
            return
        if node.attributes.get("names") and not {"other", "b"} & set(given):  # along a dimension
            return
        operands = node.inputs[:2]
        rule(ranges, node._replace(inputs=operands[::-1] if node.operator == "rsub" else operands))

    return applied


_RULES = by_operator(
    {
        "embedding embedding_bag _embedding_bag _embedding_bag_forward_only": _embedded,
        "gather index_select take_along_dim": _gathered,
        "scatter scatter_add scatter_reduce index_add index_copy index_fill index_reduce": _scattered,
        "index index_put _unsafe_index _unsafe_index_put": _indexed,
        "one_hot": _one_hot,
        "where": selected,
        "clamp clip clamp_min clamp_max hardtanh": _clamped,
        "relu relu6": _relu,
        "quantize_per_tensor fake_quantize_per_tensor_affine": _quantized,
        "add": _of_two(added),
        "sub subtract rsub": _of_two(subtracted),
        "mul multiply": _of_two(multiplied),
        "div divide true_divide floor_divide": _of_two(divided),
        "neg negative": negated,
        "maximum max": _of_two(cut_below),
        "minimum min": _of_two(cut_above),
        "zeros ones full empty new_zeros new_ones new_full new_empty": _made,
        "slice slice_copy": _sliced,
        "prim::If": _either,
        "prim::Loop": _loop,
        "%s prim::TupleConstruct" % LIST: _list,
        "%s prim::TupleUnpack prim::TupleIndex getitem __getitem__" % UNPACK: _unpacked,
        REPLACED: _replaced,
        WRITTEN: _written,
        "%s %s" % (AS_ROWS, _PASSED): _passed,
        _SAME: Ranges.same,
    }
)
