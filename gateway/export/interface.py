"""Compares the interface of an export with that of the served model."""

from collections.abc import Sequence

from gateway.export.cases import Arrays
from runtimes.contract import Signature, TensorSpec, kind_of, numpy_dtype
from runtimes.tensors import integer_range, widened

# The datatypes that targets use for those they lack. cast() refuses values that do not fit.
_SUBSTITUTES = {
    "INT64": ("INT32",), "UINT32": ("INT32",), "UINT64": ("INT32",), "INT16": ("INT32",), "UINT16": ("INT32",),
    "INT8": ("INT32",), "UINT8": ("INT32",), "FP64": ("FP32",), "FP16": ("FP32",), "BOOL": ("UINT8",),
}  # fmt: skip


def differences(served: Signature, exported: Signature) -> tuple[list[str], list[str]]:
    """Return what makes the interface incompatible, and what only makes it narrower; each in sentences."""
    mismatches: list[str] = []
    notes: list[str] = []
    for kind, ours, theirs in (("input", served.inputs, exported.inputs), ("output", served.outputs, exported.outputs)):
        names, exported_names = [spec.name for spec in ours], [spec.name for spec in theirs]
        if names != exported_names:
            mismatches.append(f"its {kind}s are {', '.join(exported_names)}, where {', '.join(names)} are served")
            continue
        for spec, other in zip(ours, theirs, strict=True):
            _compare(kind, spec, other, mismatches, notes)
    return mismatches, list(dict.fromkeys(notes))


def _compare(kind: str, spec: TensorSpec, other: TensorSpec, mismatches: list[str], notes: list[str]) -> None:
    if other.datatype != spec.datatype:
        if other.datatype in _SUBSTITUTES.get(spec.datatype, ()):
            notes.append(
                f"{kind} '{spec.name}' is {other.datatype} where {spec.datatype} is served: values that do not fit are "
                "not verified"
            )
        else:
            mismatches.append(
                f"{kind} '{spec.name}' is {other.datatype or 'of no datatype'}, where {spec.datatype} is served"
            )
    if spec.shape is None or other.shape is None:
        return
    if len(spec.shape) != len(other.shape):
        if other.shape:  # some formats declare no shape; the comparison of the outputs covers it
            mismatches.append(f"{kind} '{spec.name}' has shape {list(other.shape)}, where {list(spec.shape)} is served")
        return
    for axis, (size, exported) in enumerate(zip(spec.shape, other.shape, strict=True)):
        if size >= 0 and exported >= 0 and size != exported:
            mismatches.append(f"{kind} '{spec.name}' has shape {list(other.shape)}, where {list(spec.shape)} is served")
            return
        if kind == "input" and size < 0 and exported < 0 and axis:
            notes.append(f"dimension {axis} of '{spec.name}' is dynamic, and verified only at the sizes of the inputs")
        if kind == "input" and size < 0 <= exported:
            dimension = "the batch size" if axis == 0 else f"dimension {axis} of '{spec.name}'"
            notes.append(f"{dimension} is fixed at {exported}")


def fixed_rows(exported: Signature) -> int:
    """Return the number of rows that the export requires; 0 for any."""
    sizes = {spec.shape[0] for spec in exported.inputs if spec.shape}
    return sizes.pop() if len(sizes) == 1 and -1 not in sizes else 0


def accepts_sizes(exported: Signature, arrays: Arrays, batches: bool) -> bool:
    """Whether the arrays have the sizes that the export requires, except for the batch size."""
    first = 1 if batches else 0
    return all(
        required < 0 or required == size
        for spec in exported.inputs
        for required, size in list(zip(spec.shape or (), arrays[spec.name].shape, strict=False))[first:]
    )


def cast(arrays: Arrays, specs: Sequence[TensorSpec]) -> Arrays:
    """Convert the arrays to the specs' datatypes. Raises OverflowError for values that these cannot hold."""
    cast_arrays = {}
    for spec in specs:
        array, dtype = arrays[spec.name], numpy_dtype(spec.datatype)
        integers = widened(array).dtype.kind in "iu" and kind_of(spec.datatype) in ("int", "uint")
        if array.dtype != dtype and integers and array.size:
            least, most = integer_range(spec.datatype)
            if int(array.min()) < least or int(array.max()) > most:
                raise OverflowError(f"'{spec.name}' holds values that {spec.datatype} cannot")
        cast_arrays[spec.name] = array.astype(dtype, order="C")
    return cast_arrays
