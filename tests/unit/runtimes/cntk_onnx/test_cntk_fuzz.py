"""Random CNTK files are translated or refused with one sentence.

`MODELPORT_FUZZ_SECONDS=600 pytest tests/unit/runtimes/cntk_onnx/test_cntk_fuzz.py` fuzzes for that long, with
different files each time.
"""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtimes.cntk_onnx.dictionary import Axis, Shape, read
from runtimes.cntk_onnx.functions import network
from runtimes.cntk_onnx.translate import translate, translate_network
from runtimes.contract import LoadError
from tests.unit.runtimes.cntk_onnx.mutations import (
    AXES,
    FLOATS,
    HOW_CHANGED,
    HOW_EDITED,
    MODELS,
    NUMBERS,
    SIZES,
    TEXTS,
    Change,
    Edit,
    changed,
    edited,
)

HERE = Path(__file__).parent
# Small models that cover loops, windows, and every kind of attribute.
BASES = (
    *("loop_of_two_steps", "lstm", "convolution_groups", "sequence_moves", "slices", "shapes", "numbers", "pooling"),
    *("normalization", "products", "sequence_places", "free_size", "convolution_transposed", "reductions", "best"),
    *("cast", "chances", "binary", "sequence_as_axis", "no_batch"),
)
SECONDS = 20.0
fuzzed = settings(
    max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@cache
def base(name: str) -> bytes:
    return (MODELS / f"{name}.model").read_bytes()


def survives(made: Callable[[], Any]) -> None:
    """Check that it returns a serializable ONNX model, or refuses with one sentence."""
    began = time.process_time()
    try:
        found = made()
        assert isinstance(found.model, onnx.ModelProto)
        found.model.SerializeToString()
    except LoadError as error:
        message = str(error)
    else:
        message = "it is translated"
    assert 0 < len(message) < 1000
    assert time.process_time() - began < SECONDS


@fuzzed
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    survives(lambda: translate(data))


edit = st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(HOW_EDITED), st.binary(max_size=12))


@fuzzed
@given(st.sampled_from(BASES), st.lists(edit, min_size=1, max_size=4))
def test_a_model_with_other_bytes(name: str, edits: list[Edit]) -> None:
    survives(lambda: translate(edited(base(name), edits)))


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(FLOATS),
    st.sampled_from(TEXTS),
    st.lists(st.sampled_from(SIZES), max_size=6).map(Shape),
    st.builds(Axis, st.sampled_from(NUMBERS), st.sampled_from(AXES)),
    st.just([]),
    st.just({}),
    st.just(np.zeros((2, 3), np.float32)),
    st.just(np.zeros((), np.float64)),
)
change = st.tuples(st.lists(st.integers(0, 10**6), min_size=1, max_size=7), st.sampled_from(HOW_CHANGED), odd)


@fuzzed
@given(st.sampled_from(BASES), st.lists(change, min_size=1, max_size=3))
def test_a_model_that_says_something_else(name: str, changes: list[Change]) -> None:
    root = read(base(name))
    for each in changes:
        root = changed(root, each)
    if isinstance(root, dict):
        survives(lambda: translate_network(network(root)))


@pytest.mark.runtime("cntk_onnx")
@pytest.mark.timeout(0)
def test_a_worker_loads_or_refuses_it(runtime_python: Callable[[str], Path]) -> None:
    """This includes ONNX Runtime, in a process that ends if a file needs too much time or memory."""
    long = float(os.environ.get("MODELPORT_FUZZ_SECONDS", "0"))
    first, count = (secrets.randbelow(1 << 40), 1 << 40) if long else (0, 400)
    command = [runtime_python("cntk_onnx"), "-I", HERE / "fuzz_script.py", str(first), str(count), str(long or 300)]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stdout.rpartition("\n")[0].rpartition("\n")[2]
    assert done.returncode == 0, f"file {last}: {done.stderr[-3000:]}"
    found = json.loads(last)
    assert found["loaded"] > 10, found
    assert found["refused"] > 10, found
    print(found)
