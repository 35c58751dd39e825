"""The registry of the rules for PyTorch's operators, and the arguments of a rule. The rules are in `ops`."""

from typing import Any, List, NamedTuple, Optional, Tuple

from runtimes.dataflow.values import Value, constant, repeats
from runtimes.dataflow.walk import Call, Operators, Walk

# Operators whose rules follow sizes, or do not need all of their inputs. The inputs of all others must be known.
_SIZED = """
    size sym_size prim::shape dim numel sym_numel len view reshape _unsafe_view view_copy _reshape_alias
    reshape_copy unflatten flatten ravel squeeze unsqueeze permute transpose t expand expand_copy broadcast_to
    repeat tile repeat_interleave zeros ones full empty new_zeros new_ones new_full new_empty empty_permuted
    zeros_like ones_like full_like empty_like arange __range_length __derive_index slice slice_copy narrow select
    select_copy index index_select gather slice_scatter select_scatter add sub subtract mul multiply div divide
    true_divide truediv floordiv floor_divide remainder mod fmod eq ne lt gt le ge __and__ __or__ logical_and
    logical_or maximum minimum prim::max prim::min sym_max sym_min max min fmax fmin prod neg negative __not__
    logical_not sym_not not_ floor ceil round trunc fix Int Float Bool ScalarImplicit IntImplicit FloatImplicit
    item _local_scalar_dense prim::NumToTensor scalar_tensor sym_float sym_int tensor as_tensor int long short char
    byte bool contiguous clone detach alias lift_fresh lift_fresh_copy lift positive cpu cuda requires_grad to
    _to_copy type_as float double half bfloat16 data detach_copy alias_copy prim::unchecked_cast
    prim::unchecked_unwrap_optional prim::profile prim::ListConstruct prim::ListUnpack prim::TupleConstruct
    prim::TupleUnpack prim::TupleIndex prim::TupleSlice prim::DictConstruct __getitem__ getitem list prim::tolist
    prim::layout prim::type prim::is_cuda prim::is_nested prim::is_quantized prim::is_mkldnn prim::requires_grad
    device is_floating_point is_complex cat concat concatenate stack split unsafe_split split_with_sizes
    split_with_sizes_copy chunk unsafe_chunk tensor_split unbind prim::If prim::Loop __is__ __isnot__ prim::dtype
    prim::device adaptive_avg_pool1d adaptive_avg_pool2d affine_grid_generator native_group_norm modelport::as_rows
    modelport::written modelport::replaced modelport::append
"""
OPERATORS = Operators(
    {},
    never_fail=(
        "sum", "mean", "max", "min", "arg", "cum", "softmax", "nonzero", "unique", "slice", "__is", "format",
    ),
    sized=frozenset(_SIZED.split()),
)  # fmt: skip
rule = OPERATORS.rule

_NOTHING = "\0none"
NONE = constant([], [_NOTHING])  # Python's None
UNSET = constant([], ["\0unset"])  # a variable in a branch that has returned
LIST, UNPACK, AS_ROWS, WRITTEN, REPLACED, STORED, UNCLEAR, OBJECT, APPEND = (
    "prim::ListConstruct prim::ListUnpack modelport::as_rows modelport::written modelport::replaced "
    "modelport::stored modelport::unclear modelport::object modelport::append"
).split()


class Items(NamedTuple):
    """A list or tuple of tensors. It has the attributes of a Value whose shape is unknown."""

    items: Tuple[Any, ...]
    dims: None = None
    axis: None = None
    rank: None = None
    contents: None = None

    @property
    def mixes(self) -> Tuple[str, ...]:
        return tuple(reason for item in self.items for reason in item.mixes)

    @property
    def unknown(self) -> Tuple[str, ...]:
        return tuple(reason for item in self.items for reason in item.unknown)

    @property
    def tainted(self) -> bool:
        return any(item.tainted for item in self.items)

    @property
    def has_rows(self) -> bool:
        return any(item.has_rows for item in self.items)

    @property
    def counts_rows(self) -> bool:
        """Whether an element depends on the number of rows, in its contents or its sizes: a list has no sizes."""
        return any(item.counts_rows if isinstance(item, Items) else repeats(item) for item in self.items)


class NotFollowed(ValueError):
    """An argument that must be a constant is not one."""


class Arguments:
    """The arguments of a call by their names in the operator's schema. None counts as omitted."""

    def __init__(self, call: Call) -> None:
        names = call.attribute("names") or ()
        self._values = {name: value for name, value in zip(names, call.inputs) if value is not None and value != NONE}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def get(self, name: str) -> Optional[Value]:
        return self._values.get(name)

    def of(self, names: str) -> List[Value]:
        """Return those of these arguments that are present."""
        return [self._values[name] for name in names.split() if name in self._values]

    def number(self, name: str, otherwise: Any = None) -> Any:
        """Return a number, a size or a string. Raises NotFollowed if it is unknown."""
        found = self.numbers(name)
        return otherwise if found is None else found[0]

    def numbers(self, name: str) -> Optional[List[Any]]:
        """Return the elements, or None if the argument is omitted. Raises NotFollowed if one is unknown."""
        value = self._values.get(name)
        if value is None:
            return None
        if value.tainted or value.contents is None or any(element is None for element in value.contents):
            raise NotFollowed(name)
        return list(value.contents)


class TorchWalk(Walk):
    """unclear: reasons that concern the whole graph, whichever tensors the outputs depend on."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.unclear = []  # type: List[str]

    def _counts_rows(self, call: Call) -> bool:
        """Include elements of lists. A list of tensors that are repeated for each row does not count as one."""
        return any(_counts(value) for value in call.present)

    def _may_fail(self, node: Any, scope: Any) -> bool:
        """Operators on numbers, and those that build lists or contain other operators, do not fail themselves."""
        holds = node.operator in ("prim::If", "prim::Loop") or node.operator.endswith("Construct")
        return not holds and not node.attributes.get("number") and super()._may_fail(node, scope)


def _counts(value: Any) -> bool:
    return any(map(_counts, value.items)) if isinstance(value, Items) else bool(value.counts_rows)


def items(value: Any) -> List[Any]:
    """Return the elements of a list. Raises NotFollowed if they are unknown."""
    if isinstance(value, Items):
        return list(value.items)
    if value.contents is None or value.tainted or len(value.dims or ()) != 1:
        raise NotFollowed("a list")
    return [constant([], [element]) for element in value.contents]
