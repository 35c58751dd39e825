"""Makes programs that compute in FP16 or BF16 compute in FP32, for converters: their runtimes have few kernels for
these, round in other places than PyTorch, or sum up in them. Inputs, outputs and weights stay as they are.
"""

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import torch
from torch.export.graph_signature import OutputKind
from torch.fx import GraphModule
from torch.fx.node import map_aggregate
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from runtimes.contract import LoadError

from .dtypes import FLOATS, NARROW
from .fp32_reference import InFp32

_CASTS = (torch.ops.aten._to_copy.default, torch.ops.aten.to.dtype, torch.ops.aten._assert_tensor_metadata.default)


def narrow_datatypes(program: Any) -> List[str]:
    """Return which of FP16 and BF16 operators other than conversions read or return."""
    computing = [node for node in _operators(program) if node.target not in _CASTS]
    found = {_dtype(each) for node in computing for each in (node, *node.all_input_nodes)}
    return [name for dtype, name in NARROW.items() if dtype in found]


def note(datatypes: Sequence[str]) -> str:
    """Return a sentence for the report about a program of which narrow_datatypes() found these."""
    return "it computes in FP32 what the original computes in %s" % " and ".join(datatypes)


def of_script(module: Any, example: Tuple[Any, ...]) -> Any:
    """Return a program that computes what a module of TorchScript does."""
    from torch._export.converter import TS2EPConverter

    # This private class is the only way. It computes constants of the graph, which must not round to 16 bits.
    with torch.no_grad(), InFp32():
        converter = TS2EPConverter(module, example)
    return converter.convert()


def in_fp32(
    program: Any, example: Sequence[torch.Tensor], served: Mapping[int, str], widen_weights: bool = False
) -> Any:
    """Return the program, whose arguments are tensors one after another then, in FP32. Raises LoadError.

    example        the inputs
    served         position among the program's flat outputs → datatype, of those that are served
    widen_weights  whether weights become FP32, too, for converters that need them as constants
    """
    spec = program.call_spec.in_spec
    if spec.num_leaves != len(example):
        raise LoadError("the program has arguments that are not tensors, and computes in fewer bits than FP32")
    if _reads_bits(program):
        raise LoadError("the program reads the bits of numbers in FP16 or BF16, which it would not have in FP32")
    if _writes_in_place(program):
        # While conversions still copy, as those from FP32 to FP32 do not.
        program = program.run_decompositions({})
    module = program.module(check_guards=False)
    if widen_weights:
        module._apply(_widened_tensor)
    for part in [each for each in module.modules() if isinstance(each, GraphModule)]:
        _convert(part)
    tensors, shapes = list(example), _dynamic(program)
    for index, shape in enumerate(shapes):
        for axis in shape:
            if tensors[index].shape[axis] == 1:  # torch.export takes a size of one for a fixed size
                tensors[index] = torch.cat([tensors[index]] * 2, axis)
    dtypes = _output_dtypes(program)
    for position, datatype in served.items():  # constants of TorchScript may have made them FP32
        dtypes[position] = FLOATS.get(datatype, dtypes[position])
    edges = _Edges(module, dtypes, spec)
    return torch.export.export(edges, tuple(tensors), dynamic_shapes={"tensors": tuple(shapes)}, strict=False)


def _reads_bits(program: Any) -> bool:
    views = [node for node in _operators(program) if node.target is torch.ops.aten.view.dtype]
    return any(_dtype(each) in NARROW for node in views for each in (node, *node.all_input_nodes))


def _writes_in_place(program: Any) -> bool:
    schemas = [getattr(node.target, "_schema", None) for node in _operators(program)]
    return any(schema is not None and schema.is_mutable for schema in schemas)


def _operators(program: Any) -> List[Any]:
    parts = [each for each in program.graph_module.modules() if isinstance(each, GraphModule)]
    return [node for part in parts for node in part.graph.nodes if node.op == "call_function"]


class _Edges(torch.nn.Module):
    """A module that computes in FP32 now, between inputs and outputs as they were.

    dtypes: of its flat outputs; spec: the structure of its arguments
    """

    def __init__(self, module: torch.nn.Module, dtypes: Sequence[Any], spec: TreeSpec) -> None:
        super().__init__()
        self.module, self._dtypes, self._spec = module, dtypes, spec

    def forward(self, *tensors: torch.Tensor) -> Any:
        args, kwargs = tree_unflatten([_widened_tensor(each) for each in tensors], self._spec)
        leaves, spec = tree_flatten(self.module(*args, **kwargs))
        narrowed = [
            leaf.to(dtype) if dtype in NARROW and leaf.dtype is torch.float32 else leaf
            for leaf, dtype in zip(leaves, self._dtypes)
        ]
        return tree_unflatten(narrowed, spec)


def _convert(part: GraphModule) -> None:
    """Make its operators create FP32 in place of FP16 and BF16, and convert its weights where they are read."""
    for node in list(part.graph.nodes):
        node.args, node.kwargs = (map_aggregate(each, _widened) for each in (node.args, node.kwargs))
        if node.op == "get_attr" and getattr(_attribute(part, node.target), "dtype", None) in NARROW:
            with part.graph.inserting_after(node):
                cast = part.graph.call_function(torch.ops.aten.to.dtype, (node, torch.float32))
            node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)
    part.recompile()


def _widened(value: Any) -> Any:
    return torch.float32 if isinstance(value, torch.dtype) and value in NARROW else value


def _widened_tensor(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in NARROW else tensor


def _attribute(part: torch.nn.Module, path: str) -> Any:
    found: Any = part
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _dtype(node: Any) -> Any:
    return getattr(node.meta.get("val"), "dtype", None)


def _output_dtypes(program: Any) -> List[Any]:
    nodes = {node.name: node for node in program.graph.nodes}
    specs = [each for each in program.graph_signature.output_specs if each.kind is OutputKind.USER_OUTPUT]
    values = [nodes[each.arg.name].meta.get("val") if hasattr(each.arg, "name") else None for each in specs]
    return [getattr(value, "dtype", None) for value in values]


def _dynamic(program: Any) -> List[Dict[int, Any]]:
    """Return the dynamic dimensions of each input, with the bounds that they have."""
    nodes = {node.name: node for node in program.graph.nodes}
    bounds = {str(symbol): limits for symbol, limits in program.range_constraints.items()}
    shapes = []
    for name in program.graph_signature.user_inputs:
        sizes = nodes[name].meta["val"].shape
        shapes.append(
            {axis: _dim(bounds.get(str(size))) for axis, size in enumerate(sizes) if not isinstance(size, int)}
        )
    return shapes


def _dim(limits: Any) -> Any:
    low, high = (
        (int(end) if end is not None and abs(end) < 1 << 31 else None)
        for end in ((limits.lower, limits.upper) if limits is not None else (None, None))
    )
    return torch.export.Dim.AUTO(min=low, max=high)
