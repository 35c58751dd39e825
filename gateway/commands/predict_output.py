"""How `modelport predict` prints a response: labels and scores as a table, arrays as numpy prints them."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.codecs.npy import NPZ
from runtimes.contract import datatype_of, numpy_dtype
from runtimes.tensors import widened

# Arrays with more elements are printed with an ellipsis.
_MAX_SHOWN_ELEMENTS = 64


class NoSuchOutput(Exception):
    """The response lacks the requested output. The message lists the names of those that it has."""


def print_response(
    content_type: str, body: bytes, datatypes: Mapping[str, str], files: Sequence[str], output: str, top: int
) -> None:
    """Print a response of /predict. Raises NoSuchOutput if it has no output of that name.

    datatypes  output → datatype, from the metadata: JSON does not carry them
    files      a name for each image that was sent
    output     the only output to print; "" for all
    top        how many scores to print; 0 for all in the response
    """
    console = Console(highlight=False)
    if content_type == NPZ:
        with np.load(io.BytesIO(body)) as archive:
            outputs = {name: archive[name] for name in archive.files}
    else:
        document = json.loads(body)
        if "predictions" in document:
            _show_predictions(console, document["predictions"], files, top)
            return
        outputs = {
            name: values if datatypes and name not in datatypes else _array(values, datatypes.get(name, ""))
            for name, values in document["outputs"].items()
        }
    if output and output not in outputs:
        raise NoSuchOutput(", ".join(f"'{name}'" for name in outputs))
    for name, values in outputs.items():
        if output in ("", name) and isinstance(values, np.ndarray):
            _show_array(console, name, values, top)
        elif output in ("", name):  # no tensor: the metadata does not list it
            console.print(f"{name}\n{json.dumps(values, ensure_ascii=False)}", markup=False, soft_wrap=True)


def _array(values: Any, datatype: str) -> Any:
    """Return an array, or the values as they are if they are none."""
    try:
        array = np.array(values, numpy_dtype(datatype) if datatype else None)
    except ValueError:  # lists of different lengths
        return values
    return array if datatype or array.dtype != object else values


def _show_predictions(console: Console, predictions: list[Any], files: Sequence[str], top: int) -> None:
    is_batch = bool(predictions) and isinstance(predictions[0], list)
    for file, scores in zip(files, predictions if is_batch else [predictions], strict=True):
        if is_batch:
            console.print(file, markup=False)
        rows = [(str(each["index"]), each.get("label", ""), each["score"]) for each in scores[: top or None]]
        console.print(_table(rows, labels=any(label for _, label, _ in rows)))


def _show_array(console: Console, name: str, array: np.ndarray, top: int) -> None:
    console.print(f"{name}  {datatype_of(array.dtype)} {list(array.shape)}", markup=False)
    if top and array.ndim and widened(array).dtype.kind in "iuf":
        for row in widened(array).reshape(-1, array.shape[-1]):
            best = np.argsort(-row.astype(np.float64), kind="stable")[:top]
            console.print(_table([(str(index), "", row[index]) for index in best], labels=False))
        return
    text = np.array2string(array, threshold=_MAX_SHOWN_ELEMENTS, max_line_width=console.width, separator=", ")
    console.print(text, markup=False, soft_wrap=True)


def _table(rows: Sequence[tuple[str, str, Any]], labels: bool) -> Table:
    """rows: (index, label, score); labels: whether to show a column for labels."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    if labels:
        table.add_column("LABEL", overflow="fold")
    table.add_column("SCORE", justify="right")
    table.add_column("INDEX", justify="right")
    for index, label, score in rows:
        table.add_row(*([Text(label)] if labels else []), f"{score:.4g}", index)
    return table
