"""Reads tensors from the annotations of `predict`: "FP32[-1, 4]", and {"y": "FP32[-1]"} for what it returns."""

import ast
import inspect
import re
from typing import Any, Tuple

from runtimes.contract import DATATYPES, LoadError, TensorSpec

# The output of a model that returns one array, and names it nowhere.
ONLY_OUTPUT = "output"
_TENSOR = re.compile(r"\s*([A-Z0-9_]+)\s*(\[([-\d,\s]*)\])?\s*")


def input_spec(name: str, annotation: Any) -> TensorSpec:
    """Return an input. Without an annotation, only its name is known. Raises LoadError."""
    if annotation is inspect.Parameter.empty:
        return TensorSpec(name)
    return _spec(name, _evaluated(annotation), "predict's '%s'" % name)


def output_specs(predict: Any) -> Tuple[TensorSpec, ...]:
    """Return the outputs; none without an annotation. Raises LoadError."""
    annotation = _evaluated(inspect.signature(predict).return_annotation)
    if annotation is inspect.Signature.empty:
        return ()
    if not isinstance(annotation, dict):
        return (_spec(ONLY_OUTPUT, annotation, "what predict returns"),)
    if not annotation or not all(isinstance(name, str) and name for name in annotation):
        raise LoadError("what predict returns must be annotated with the names of its outputs")
    return tuple(_spec(name, _evaluated(each), "predict's output '%s'" % name) for name, each in annotation.items())


def _evaluated(annotation: Any) -> Any:
    """Return an annotation as it was written, if `from __future__ import annotations` made a text of it."""
    if isinstance(annotation, str) and not _TENSOR.fullmatch(annotation):
        try:
            return ast.literal_eval(annotation)
        except (ValueError, SyntaxError):
            return annotation
    return annotation


def _spec(name: str, text: Any, what: str) -> TensorSpec:
    match = _TENSOR.fullmatch(text) if isinstance(text, str) else None
    if match is None or match.group(1) not in DATATYPES:
        raise LoadError(
            '%s is annotated with %s, but it must be a datatype and a shape, such as "FP32[-1, 4]" or "BYTES[-1]"; '
            "the datatypes are %s" % (what, _shown(text), ", ".join(DATATYPES))
        )
    if match.group(2) is None:
        return TensorSpec(name, match.group(1))
    try:
        shape = tuple(int(size) for size in match.group(3).split(",") if size.strip())
    except ValueError:
        shape = (0,)
    if any(size < -1 or size == 0 for size in shape):
        raise LoadError(
            "%s is annotated with %s, but every size must be positive, or -1 for any" % (what, _shown(text))
        )
    return TensorSpec(name, match.group(1), shape)


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else repr(annotation)
