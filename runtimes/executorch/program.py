"""Reads what a .pte file says of its methods: tensors, operators and backends.

ExecuTorch's own metadata leaves out which sizes are dynamic, and which operators a method needs. The numbers are those
of the fields in its schema, program.fbs.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from runtimes.contract import LoadError
from runtimes.flatbuffer import MALFORMED, Flat

_VERSION = b"ET12"
_PLANS = 1  # of a program
_NAME, _VALUES, _INPUTS, _OUTPUTS, _OPERATORS, _DELEGATES = 0, 2, 3, 4, 6, 7  # of a plan
_KIND, _VALUE = 0, 1  # of a value, whose kind 5 is a tensor and 6 a string
_TENSOR, _STRING = 5, 6
_TYPE, _SIZES, _LOCATION, _DYNAMISM = 0, 2, 6, 8  # of a tensor
_OPERATOR, _OVERLOAD = 0, 1
_BACKEND = 0  # of a delegate


class Tensor(NamedTuple):
    """An input or output. type: the number of ExecuTorch's ScalarType. sizes: the largest ones if it is dynamic."""

    type: int
    sizes: Tuple[int, ...]
    dynamic: bool


class Method(NamedTuple):
    """A method. An input or output that is no tensor is None.

    text       the string that the method returns, if it is a constant
    operators  with their overloads: "aten::add.out"
    backends   that run parts of it
    """

    name: str
    inputs: List[Optional[Tensor]]
    outputs: List[Optional[Tensor]]
    text: str
    operators: List[str]
    backends: List[str]

    @property
    def keeps_state(self) -> bool:
        """Whether it writes to a buffer, which only operators in place do."""
        return any(name.split("::")[-1].split(".")[0].endswith("_") for name in self.operators)


def read_methods(content: bytes) -> Dict[str, Method]:
    """Return the methods by name. Raises LoadError."""
    if content[4:8] != _VERSION:
        raise LoadError("its version is not that of this ExecuTorch, which reads files that begin with ET12 at byte 4")
    try:
        return {plan.text(_NAME): _method(plan) for plan in Flat.root(content).tables(_PLANS)}
    except MALFORMED as error:
        raise LoadError("the file is damaged: its methods cannot be read") from error


def _method(plan: Flat) -> Method:
    values = list(plan.tables(_VALUES))

    def chosen(field: int) -> List[Flat]:
        return [values[index] for index in plan.int32s(field)]

    outputs = chosen(_OUTPUTS)
    operators = [".".join((each.text(_OPERATOR), each.text(_OVERLOAD))) for each in plan.tables(_OPERATORS)]
    return Method(
        plan.text(_NAME),
        [_tensor(value) for value in chosen(_INPUTS)],
        [_tensor(value) for value in outputs],
        "".join(_member(value).text(0) for value in outputs if value.int8(_KIND) == _STRING),
        operators,
        [each.text(_BACKEND) for each in plan.tables(_DELEGATES)],
    )


def _tensor(value: Flat) -> Optional[Tensor]:
    if value.int8(_KIND) != _TENSOR:
        return None
    tensor = _member(value)
    return Tensor(tensor.int8(_TYPE), tuple(tensor.int32s(_SIZES)), bool(tensor.int8(_DYNAMISM)))


def _member(value: Flat) -> Any:
    member = value.member(_VALUE)
    if member is None:
        raise ValueError("a value is empty")
    return member
