"""Decides, before anything runs, which columns of a table make which input of a model."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import pyarrow as pa

from gateway.errors import InvalidRequest
from gateway.score.column_values import Target, depth_of, leaf_of, plain_type, problem
from runtimes.contract import Signature, TensorSpec

_MAX_NAMES = 12  # in a message


class InputColumns(NamedTuple):
    """How an input is made.

    columns  one, or several whose numbers are joined to a vector
    target   what a row has to become
    leading  whether a row is what comes after the first dimension of the input, so that this dimension is added
    """

    columns: tuple[str, ...]
    target: Target
    leading: bool


def match(
    signature: Signature,
    schema: pa.Schema,
    has_rows: bool,
    chosen: Mapping[str, str],
    kept: Sequence[str],
    outputs: Sequence[str] = (),
) -> list[InputColumns]:
    """Return how each input is made of the table's columns. Raises InvalidRequest.

    has_rows  whether the first dimension of the inputs counts rows
    chosen    input → the column that the user has named
    kept      columns that the user wants in the output, so that they are not numbers of a vector
    outputs   those that are asked for; empty for all
    """
    specs = {spec.name: spec for spec in signature.inputs}
    for name, column in chosen.items():
        if name not in specs:
            raise InvalidRequest(f"the model has no input '{name}' for column '{column}'; it has {_quoted(specs)}")
        if column not in schema.names:
            raise InvalidRequest(f"the table has no column '{column}'; it has {_quoted(schema.names)}")
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise InvalidRequest(f"the table has several columns '{twice}'; rename all but one")
    found, missing, needed = list[InputColumns](), list[TensorSpec](), signature.needed_for(outputs)
    for spec in signature.inputs:
        column = chosen.get(spec.name, spec.name)
        if column in schema.names:
            found.append(_of_one(spec, schema.field(column), has_rows))
        elif spec.name in needed:
            missing.append(spec)
    if not missing:
        return found
    if len(signature.inputs) == 1 and (only := _of_others(missing[0], schema, has_rows, kept)):
        return [only]
    raise InvalidRequest(_no_column(missing[0], schema, has_rows))


def _no_column(spec: TensorSpec, schema: pa.Schema, has_rows: bool) -> str:
    names = _quoted(schema.names[:_MAX_NAMES]) + (", …" if len(schema.names) > _MAX_NAMES else "")
    shape = _target(spec, has_rows or _adds_dimension(spec, 0)).shape
    vector = ""
    if shape and -1 not in shape:
        vector = f"; to make it of {prod(shape)} columns of numbers, name all others with --keep"
    return (
        f"no column is called '{spec.name}', as the input is; the table has {names}: rename one, or choose one with "
        f"--column {spec.name}=COLUMN{vector}"
    )


def _of_one(spec: TensorSpec, field: pa.Field, has_rows: bool) -> InputColumns:
    if why := problem(field.type, spec.datatype):
        raise InvalidRequest(f"column '{field.name}' cannot be input '{spec.name}': {why}")
    leading = has_rows or _adds_dimension(spec, depth_of(plain_type(field.type)))
    return InputColumns((field.name,), _target(spec, leading), leading)


def _of_others(spec: TensorSpec, schema: pa.Schema, has_rows: bool, kept: Sequence[str]) -> InputColumns | None:
    """Return columns with other names for the only input: the only one with lists, or as many numbers as it takes."""
    fields = [each for each in schema if each.name not in kept and not problem(each.type, spec.datatype)]
    lists = [each for each in fields if depth_of(plain_type(each.type))]
    if len(lists) == 1:
        return _of_one(spec, lists[0], has_rows)
    leading = has_rows or _adds_dimension(spec, 0)
    target = _target(spec, leading)
    numbers = [each for each in fields if not depth_of(plain_type(each.type)) and not _is_null(each)]
    if not lists and target.shape is not None and -1 not in target.shape and len(numbers) == prod(target.shape):
        return InputColumns(tuple(each.name for each in numbers), target, leading)
    return None


def _target(spec: TensorSpec, leading: bool) -> Target:
    return Target(spec.name, spec.datatype, spec.shape[1:] if leading and spec.shape else spec.shape)


def _adds_dimension(spec: TensorSpec, depth: int) -> bool:
    """Whether a model that runs each row alone needs another dimension than the rows of the column have."""
    return spec.shape is not None and len(spec.shape) > depth and spec.shape[:1] in ((-1,), (1,))


def _is_null(field: pa.Field) -> bool:
    return bool(pa.types.is_null(leaf_of(plain_type(field.type))))


def _quoted(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
