"""Check LiteRT's interpreter over many requests: `PYTHON script.py ARTIFACT`, with the Python of its environment.

The artifact gathers rows by indices, which can be out of range. A failed check raises.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3] / "runtimes"
spec = importlib.util.spec_from_file_location("runtimes", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
sys.modules["runtimes"] = importlib.util.module_from_spec(spec)

from runtimes.contract import InvalidInput, LoadOptions  # noqa: E402
from runtimes.tflite import runner  # noqa: E402
from runtimes.tflite.runtime import load  # noqa: E402


def gather(model, *numbers):
    try:
        return model.infer({"numbers": np.array(numbers, np.int32)}, [], "")["y"].tolist()
    except InvalidInput as error:
        return str(error)


def failures_are_told_apart_and_forgotten(artifact):
    """Check that each error is about its own request: LiteRT's message repeats all previous ones, and keeps growing."""
    runner._MAX_MESSAGES = 1000
    model = load(LoadOptions(artifact))
    first, started = model._runner._inner, 0
    for _ in range(100):
        assert gather(model, 9) == "gather index out of bounds"
        assert "was not true, gather index out of bounds" in gather(model, -1)
        assert gather(model, 2, 0) == [[4, 5], [0, 1]]
        assert len(model._runner._messages) < 1200
        first, started = model._runner._inner, started + (model._runner._inner is not first)
    assert started > 10, started


def an_overwritten_file_changes_nothing(artifact):
    copy = Path(artifact).with_name("overwritten.tflite")
    copy.write_bytes(Path(artifact).read_bytes())
    model = load(LoadOptions(str(copy)))
    copy.write_bytes(b"")
    assert gather(model, 1) == [[2, 3]]


failures_are_told_apart_and_forgotten(sys.argv[1])
an_overwritten_file_changes_nothing(sys.argv[1])
