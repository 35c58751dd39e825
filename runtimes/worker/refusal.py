"""Finds out whether a model refuses every input, in which case the model is at fault and not its clients.

A runtime cannot always tell the two apart. An index beyond a table is the request's fault if it came with the request,
and the model's if it is a constant. "Shapes do not fit" is the model's fault if model.toml declares a size that its
weights do not have. So synthetic rows are tried. If only values and the number of rows are variable in a signature, and
rows of all kinds are refused with the same words, then a refusal with these words is not a client's fault.
"""

import re
from typing import Dict, Optional

import numpy as np

from runtimes.contract import DeviceLost, InvalidInput, Model, Signature
from runtimes.worker.draws import KINDS, values
from runtimes.worker.random_arrays import Random

# Upper limits for synthetic integers. On a GPU, an index beyond a table would end the process, so they stay at 0 and 1.
_MAX_ID, _MAX_ID_ON_CARD = 100, 2
# Numbers of rows, one for each kind. An exported program may accept only a few rows at least, or multiples of a number.
_ROWS = (1, 2, 3, 4, 5, 8, 12, 16, 32)
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def without_numbers(sentence: str) -> str:
    """Return the sentence without its numbers, since these may depend on a request's values or number of rows."""
    return _NUMBER.sub("#", sentence)


def common_refusal(model: Model, dim: int, on_card: bool = False) -> str:
    """Return the words with which the default signature refuses rows of all kinds, or "" if it may accept some.

    dim: the batch dimension. Signatures with BYTES inputs always yield "", because valid texts cannot be guessed.
    """
    name, signature = next(iter(model.signatures.items()))
    common = ""
    for rows, kind in zip(_ROWS, KINDS):
        inputs = _draw(signature, dim, rows, kind, _MAX_ID_ON_CARD if on_card else _MAX_ID)
        if inputs is None:
            return ""
        try:
            model.infer(inputs, (), name)
            return ""
        except InvalidInput as error:
            message = without_numbers(str(error))
        except DeviceLost:
            raise
        except Exception:  # noqa: BLE001 - any other error is reported as the model's failure anyway
            return ""
        if common and message != common:
            return ""
        common = message
    return common


def _draw(signature: Signature, dim: int, rows: int, kind: str, largest_id: int) -> Optional[Dict[str, np.ndarray]]:
    """Return synthetic inputs, or None if more than values and the number of rows is variable."""
    inputs = {}
    random = Random(KINDS.index(kind))
    for spec in signature.inputs:
        shape = [rows if size < 0 and axis == dim else size for axis, size in enumerate(spec.shape or ())]
        if spec.shape is None or spec.datatype in ("", "BYTES") or -1 in shape:
            return None
        inputs[spec.name] = values(random, kind, spec.datatype, shape, 1, largest_id)
    return inputs or None
