"""Matches the inputs of a TorchScript model with the arguments of `forward`.

A list of tensors, a tuple and a dict of tensors are one input for each element: images_0, images_1, features_age. How
many elements a list has, and which keys a dict has, is only known if model.toml declares them; a list that it does not
declare has up to 8. A list of numbers or texts is an input of rank 1.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from runtimes.checks import quoted
from runtimes.contract import InvalidInput, LoadError, TensorSpec

from .names import SCALARS, check_positions, placed
from .program import LIST, SCALAR, TENSOR

_LISTED = 8


class Slot(NamedTuple):
    """What one input is for: an argument, or the element `key` of one. kind: one of those of Program."""

    argument: Any
    spec: TensorSpec
    key: Union[None, int, str] = None
    kind: str = TENSOR
    optional: bool = False


class Arguments:
    """slots: one for each input, in the order of the arguments."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = list(slots)
        self._direct = all(slot.key is None and slot.kind != LIST and not slot.optional for slot in slots)
        self._names = [slot.argument.name for slot in slots]
        groups: Dict[str, List[Tuple[int, Slot]]] = {}
        for index, slot in enumerate(slots):
            groups.setdefault(slot.argument.name, []).append((index, slot))
        self._groups = list(groups.values())

    def keywords(self, values: Sequence[Any]) -> Dict[str, Any]:
        """Return the arguments of a call. values: one for each slot; None for an input that is left out.

        Raises InvalidInput if elements are left out that cannot be.
        """
        if self._direct:
            return dict(zip(self._names, values))
        found: Dict[str, Any] = {}
        for slots in self._groups:
            argument = slots[0][1].argument
            given = {slot.key: values[index] for index, slot in slots if values[index] is not None}
            if given or not argument.has_default_value():
                found[argument.name] = _joined(argument, [slot for _, slot in slots], given)
        return found


def _joined(argument: Any, slots: Sequence[Slot], given: Dict[Any, Any]) -> Any:
    """Return the value of an argument. given: those of its elements that there are."""
    container = _container(argument)
    if not container:
        value = given.get(None)
        return list(value) if isinstance(value, tuple) else value
    if not given and argument.type.kind() == "OptionalType":
        return None
    if container == "DictType":
        return given
    wanted = len(slots) if container == "TupleType" else len(given)
    for slot in slots[:wanted]:
        if slot.key not in given:
            raise InvalidInput("input '%s' is missing: the elements after it are given" % slot.spec.name)
    values = [given[slot.key] for slot in slots[:wanted]]
    return tuple(values) if container == "TupleType" else values


def match(
    arguments: Sequence[Any], declared: Sequence[TensorSpec], optional: Sequence[str], batches: bool
) -> Arguments:
    """Return what the declared inputs are for. Raises LoadError.

    optional: the declared inputs that requests may leave out. batches: whether batching is declared, for which each
    input needs rows: numbers with a default are then no inputs unless they are declared
    """
    slots = _declared(arguments, declared, optional) if declared else _found(arguments, batches)
    given = {slot.argument.name for slot in slots}
    missing = [each.name for each in arguments if not each.has_default_value() and each.name not in given]
    if missing:
        raise LoadError(
            "%d inputs are declared, but the model has %s" % (len(declared), quoted(each.name for each in arguments))
        )
    order = [argument.name for argument in arguments]
    slots.sort(key=lambda slot: order.index(slot.argument.name))
    for argument in arguments:
        _check_elements(argument, [slot for slot in slots if slot.argument is argument])
    return Arguments(slots)


def _found(arguments: Sequence[Any], batches: bool) -> List[Slot]:
    slots: List[Slot] = []
    for argument in arguments:
        try:
            found = _slots(argument)
        except LoadError:
            if argument.has_default_value():
                continue
            raise
        if argument.has_default_value() and batches and any(slot.kind != TENSOR for slot in found):
            continue
        slots += found
    return slots


def _slots(argument: Any) -> List[Slot]:
    """Return the inputs for an argument that is not declared. Raises LoadError."""
    container, name, may_lack = _container(argument), argument.name, _may_lack(argument)
    if not container:
        return [_slot(argument, TensorSpec(name), None, may_lack)]
    if container == "TupleType":
        count = len(_type(argument).elements())
        return [_slot(argument, TensorSpec("%s_%d" % (name, index)), index, may_lack) for index in range(count)]
    if container == "DictType":
        raise LoadError(
            "input '%s' is a dict, whose keys are not in the file: declare each as an input '%s_KEY' in model.toml"
            % (name, name)
        )
    return [
        _slot(argument, TensorSpec("%s_%d" % (name, index)), index, may_lack or index > 0) for index in range(_LISTED)
    ]


def _declared(arguments: Sequence[Any], declared: Sequence[TensorSpec], optional: Sequence[str]) -> List[Slot]:
    """Return the declared inputs, by name if all names are those of arguments or their elements, else by position."""
    check_positions(declared)
    found = [_resolve(arguments, spec.name) for spec in declared]
    if None in found and len(arguments) == 1 and _container(arguments[0]) == "DictType":
        found = [(arguments[0], spec.name) for spec in declared]  # the keys themselves, as Triton has it
    if None in found:
        parts = [placed(spec.name) for spec in declared]
        if all(each is not None for each in parts) and len({each[1:] for each in parts if each}) == len(parts):
            found = [_at(arguments, each[1], each[2][1:]) for each in parts if each]
        else:
            plain = [argument for argument in arguments if not _container(argument)]
            found = [(argument, None) for argument in plain[: len(declared)]]
    if None in found or len(found) != len(declared):
        raise LoadError(
            "%d inputs are declared, but the model has %s" % (len(declared), quoted(each.name for each in arguments))
        )
    return [
        _slot(each[0], spec, each[1], spec.name in optional or each[0].has_default_value() or _may_lack(each[0]))
        for spec, each in zip(declared, found)
        if each is not None
    ]


def _resolve(arguments: Sequence[Any], name: str) -> Optional[Tuple[Any, Any]]:
    """Return the argument with this name, or that with this element."""
    for position, argument in enumerate(arguments):
        if not _container(argument):
            if argument.name == name:
                return argument, None
        elif name.startswith(argument.name + "_"):
            found = _at(arguments, position, name[len(argument.name) + 1 :])
            if found is not None:
                return found
    return None


def _at(arguments: Sequence[Any], position: int, part: str) -> Optional[Tuple[Any, Any]]:
    if position >= len(arguments):
        return None
    argument = arguments[position]
    container = _container(argument)
    if not container or container == "DictType":
        return (argument, part or None) if bool(part) == bool(container) else None
    return (argument, int(part)) if part.isdecimal() and len(part) < 5 else None


def _check_elements(argument: Any, slots: Sequence[Slot]) -> None:
    """Sort out the elements of a list or tuple, which have to be there from the first one on. Raises LoadError."""
    container = _container(argument)
    if not slots or container not in ("ListType", "TupleType"):
        return
    keys = [slot.key for slot in slots]
    wanted = len(_type(argument).elements()) if container == "TupleType" else len(slots)
    if keys != list(range(wanted)):
        raise LoadError(
            "the elements of '%s' are declared as %s: declare '%s_0' to '%s_%d', in this order"
            % (argument.name, quoted(slot.spec.name for slot in slots), argument.name, argument.name, wanted - 1)
        )


def _slot(argument: Any, spec: TensorSpec, key: Any, optional: bool) -> Slot:
    kind = _type(argument)
    if key is not None:
        elements = kind.elements() if kind.kind() == "TupleType" else [kind.containedTypes()[-1]]
        kind = elements[key if kind.kind() == "TupleType" and key < len(elements) else 0]
    if kind.kind() == "OptionalType":
        kind = kind.getElementType()
    if kind.kind() in SCALARS:
        shape = () if spec.shape is None else spec.shape
        return Slot(argument, TensorSpec(spec.name, SCALARS[kind.kind()], shape), key, SCALAR, optional)
    if kind.kind() == "ListType" and kind.getElementType().kind() in SCALARS:
        shape = (-1,) if spec.shape is None else spec.shape
        return Slot(argument, TensorSpec(spec.name, SCALARS[kind.getElementType().kind()], shape), key, LIST, optional)
    if kind.kind() != "TensorType":
        raise LoadError(
            "input '%s' is %s; only tensors, numbers, texts, and lists, tuples and dicts of them can be served"
            % (spec.name, argument.type)
        )
    return Slot(argument, spec, key, TENSOR, optional)


def _type(argument: Any) -> Any:
    kind = argument.type
    return kind.getElementType() if kind.kind() == "OptionalType" else kind


def _may_lack(argument: Any) -> bool:
    return argument.has_default_value() or argument.type.kind() == "OptionalType"


def _container(argument: Any) -> str:
    """Return the kind of an argument whose elements are inputs of their own; "" for another argument."""
    kind = _type(argument)
    if kind.kind() == "ListType" and kind.getElementType().kind() in SCALARS:
        return ""
    return kind.kind() if kind.kind() in ("ListType", "TupleType", "DictType") else ""
