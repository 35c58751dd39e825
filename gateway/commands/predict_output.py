"""What `modelport predict` shows of an answer: labels with scores as a table, arrays as numpy prints them."""

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

# Longer arrays are shortened.
_MAX_SHOWN = 64


class NoSuchOutput(Exception):
    """Its text names the outputs that there are."""


def show(kind: str, body: bytes, datatypes: Mapping[str, str], files: Sequence[str], output: str, top: int) -> None:
    """Raises NoSuchOutput where there is none called `output` ("": all of them).

    kind       the body's content type
    datatypes  of the model's outputs, which JSON does not tell
    files      a name for each image that was sent
    top        how many scores; 0 for all that came
    """
    console = Console(highlight=False)
    if kind == NPZ:
        with np.load(io.BytesIO(body)) as archive:
            outputs = {name: archive[name] for name in archive.files}
    else:
        document = json.loads(body)
        if "predictions" in document:
            _show_predictions(console, document["predictions"], files, top)
            return
        outputs = {name: _array(values, datatypes.get(name, "")) for name, values in document["outputs"].items()}
    if output and output not in outputs:
        raise NoSuchOutput(", ".join(f"'{name}'" for name in outputs))
    for name, array in outputs.items():
        if output in ("", name):
            _show_array(console, name, array, top)


def _array(values: Any, datatype: str) -> np.ndarray:
    return np.array(values, numpy_dtype(datatype) if datatype else None)


def _show_predictions(console: Console, predictions: list[Any], files: Sequence[str], top: int) -> None:
    several = bool(predictions) and isinstance(predictions[0], list)
    for file, best in zip(files, predictions if several else [predictions], strict=True):
        if several:
            console.print(file, markup=False)
        rows = [(str(one["index"]), one.get("label", ""), one["score"]) for one in best[: top or None]]
        console.print(_table(rows, labels=any(label for _, label, _ in rows)))


def _show_array(console: Console, name: str, array: np.ndarray, top: int) -> None:
    told = f"{name}  {datatype_of(array.dtype)} {list(array.shape)}"
    console.print(told, markup=False)
    if top and array.ndim and array.dtype.kind in "iuf":
        for row in array.reshape(-1, array.shape[-1]):
            best = np.argsort(-row.astype(np.float64), kind="stable")[:top]
            console.print(_table([(str(index), "", row[index]) for index in best], labels=False))
        return
    text = np.array2string(array, threshold=_MAX_SHOWN, max_line_width=console.width, separator=", ")
    console.print(text, markup=False, soft_wrap=True)


def _table(rows: Sequence[tuple[str, str, Any]], labels: bool) -> Table:
    """rows: index, label, score."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    if labels:
        made.add_column("LABEL", overflow="fold")
    made.add_column("SCORE", justify="right")
    made.add_column("INDEX", justify="right")
    for index, label, score in rows:
        made.add_row(*([Text(label)] if labels else []), f"{score:.4g}", index)
    return made
