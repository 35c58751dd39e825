"""The files of an MXNet model. The export reads them as well, so this needs the standard library only."""

import glob
import json
import re


def newest_parameters(prefix: str) -> str:
    """Return the parameter file of the highest epoch, PREFIX-NNNN.params; "" if there is none."""
    epochs = {}
    for file in glob.glob(glob.escape(prefix) + "-*.params"):
        match = re.match(r"-([0-9]{4,9})\.params$", file[len(prefix) :])
        if match:
            epochs[int(match.group(1))] = file
    return epochs[max(epochs)] if epochs else ""


def has_numpy_shapes(path: str) -> bool:
    """Whether a symbol's file was written with numpy's semantics. A file that is not one has none."""
    try:
        with open(path, encoding="utf-8") as file:
            return bool(json.load(file)["attrs"]["is_np_shape"][1])
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return False
