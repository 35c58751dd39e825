"""What an export takes and gives, beside what the served model does."""

from collections.abc import Sequence

import numpy as np

from gateway.export.cases import Arrays
from runtimes.contract import Signature, TensorSpec, kind_of, numpy_dtype

# What a target without these datatypes has in their place; values that do not fit are refused when they are met.
_STANDS_FOR = {
    "INT64": ("INT32",), "UINT32": ("INT32",), "UINT64": ("INT32",), "INT16": ("INT32",), "UINT16": ("INT32",),
    "INT8": ("INT32",), "UINT8": ("INT32",), "FP64": ("FP32",), "FP16": ("FP32",), "BOOL": ("UINT8",),
}  # fmt: skip


def differences(served: Signature, exported: Signature) -> tuple[list[str], list[str]]:
    """What makes it another interface, and what is only narrower; each a sentence."""
    wrong: list[str] = []
    notes: list[str] = []
    for kind, ours, theirs in (("input", served.inputs, exported.inputs), ("output", served.outputs, exported.outputs)):
        names, given = [spec.name for spec in ours], [spec.name for spec in theirs]
        if names != given:
            wrong.append(f"its {kind}s are {', '.join(given)}, where {', '.join(names)} are served")
            continue
        for spec, other in zip(ours, theirs, strict=True):
            _compare(kind, spec, other, wrong, notes)
    return wrong, list(dict.fromkeys(notes))


def _compare(kind: str, spec: TensorSpec, other: TensorSpec, wrong: list[str], notes: list[str]) -> None:
    if other.datatype != spec.datatype:
        if other.datatype in _STANDS_FOR.get(spec.datatype, ()):
            notes.append(f"{kind} '{spec.name}' is {other.datatype}, since the target has no {spec.datatype}")
        else:
            wrong.append(
                f"{kind} '{spec.name}' is {other.datatype or 'of no datatype'}, where {spec.datatype} is served"
            )
    if spec.shape is None or other.shape is None:
        return
    if len(spec.shape) != len(other.shape):
        if other.shape:  # some formats do not tell: the proof shows
            wrong.append(f"{kind} '{spec.name}' has shape {list(other.shape)}, where {list(spec.shape)} is served")
        return
    for axis, (size, given) in enumerate(zip(spec.shape, other.shape, strict=True)):
        if size >= 0 and given >= 0 and size != given:
            wrong.append(f"{kind} '{spec.name}' has shape {list(other.shape)}, where {list(spec.shape)} is served")
            return
        if kind == "input" and size < 0 and given < 0 and axis:
            notes.append(f"dimension {axis} of '{spec.name}' is open, and was tried at the sizes of the inputs only")
        if kind == "input" and size < 0 <= given:
            what = "the batch" if axis == 0 else f"dimension {axis} of '{spec.name}'"
            notes.append(f"{what} is fixed at {given}")


def fixed_rows(exported: Signature) -> int:
    """How many rows it wants at a time; 0 for any."""
    sizes = {spec.shape[0] for spec in exported.inputs if spec.shape}
    return sizes.pop() if len(sizes) == 1 and -1 not in sizes else 0


def takes(exported: Signature, arrays: Arrays, batches: bool) -> bool:
    """Whether the arrays have its sizes, but for the batch."""
    first = 1 if batches else 0
    return all(
        want < 0 or want == size
        for spec in exported.inputs
        for want, size in list(zip(spec.shape or (), arrays[spec.name].shape, strict=False))[first:]
    )


def cast(arrays: Arrays, specs: Sequence[TensorSpec]) -> Arrays:
    """By the specs' datatypes. Raises OverflowError for values that these cannot hold."""
    made = {}
    for spec in specs:
        array, dtype = arrays[spec.name], numpy_dtype(spec.datatype)
        whole = array.dtype.kind in "iu" and kind_of(spec.datatype) in ("int", "uint")
        if array.dtype != dtype and whole and array.size:
            limits = np.iinfo(dtype)
            if int(array.min()) < limits.min or int(array.max()) > limits.max:
                raise OverflowError(f"'{spec.name}' holds values that {spec.datatype} cannot")
        made[spec.name] = array.astype(dtype, order="C")
    return made
