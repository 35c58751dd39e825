"""Whether a model refuses whatever it is sent: then it is at fault, and not the client whose request it refuses.

A runtime cannot always tell. An index beyond a table is the request's fault where it came with the request, and the
model's where it is a constant; "shapes do not fit" is the model's where model.toml declares a size that its weights do
not have. So invented rows are tried: where a signature leaves nothing open but how many rows there are and what is in
them, and rows of every kind are refused in the same words, these words are no client's fault.
"""

import re
from typing import Dict, Optional

import numpy as np

from runtimes.contract import DeviceLost, InvalidInput, Model, Signature
from runtimes.worker.draws import KINDS, values

# On a card, an index beyond a table ends the process: as in the trial, integers stay small there.
_IDS, _IDS_ON_CARD = 100, 2
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def words(sentence: str) -> str:
    """A sentence without its numbers, in which requests with other values or another number of rows differ."""
    return _NUMBER.sub("#", sentence)


def refusal(model: Model, dim: int, on_card: bool = False) -> str:
    """The words with which the default signature refuses rows of every kind; "" where it takes some, or may.

    dim: the batch dimension. Texts are never invented here: what a text must be, nobody can guess.
    """
    name, signature = next(iter(model.signatures.items()))
    found = ""
    for count, kind in enumerate(KINDS):
        inputs = _drawn(signature, dim, 1 + count % 2, kind, _IDS_ON_CARD if on_card else _IDS)
        if inputs is None:
            return ""
        try:
            model.infer(inputs, (), name)
            return ""
        except InvalidInput as error:
            said = words(str(error))
        except DeviceLost:
            raise
        except Exception:  # noqa: BLE001 - no client is blamed for it anyway
            return ""
        if found and said != found:
            return ""
        found = said
    return found


def _drawn(signature: Signature, dim: int, rows: int, kind: str, ids: int) -> Optional[Dict[str, np.ndarray]]:
    """None where something else than values and the number of rows is open."""
    inputs = {}
    random = np.random.RandomState(KINDS.index(kind))
    for spec in signature.inputs:
        shape = [rows if size < 0 and axis == dim else size for axis, size in enumerate(spec.shape or ())]
        if spec.shape is None or spec.datatype in ("", "BYTES") or -1 in shape:
            return None
        inputs[spec.name] = values(random, kind, spec.datatype, shape, 1, ids)
    return inputs or None
