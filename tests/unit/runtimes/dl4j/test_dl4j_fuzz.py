"""Random Deeplearning4j files are translated or refused with one sentence.

`MODELPORT_FUZZ_SECONDS=600 pytest tests/unit/runtimes/dl4j/test_dl4j_fuzz.py` fuzzes for that long, with
different files each time.
"""

import io
import os
import time
import zipfile
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtimes.contract import LoadError, TensorSpec
from runtimes.dl4j.choices import NONE
from runtimes.dl4j.reader import model_bytes
from tests.unit.runtimes.dl4j import mutations, normalizers, zips
from tests.unit.runtimes.dl4j.networks import NETWORKS

LONG = float(os.environ.get("MODELPORT_FUZZ_SECONDS", "0"))
SECONDS = 5.0
CHOICES = NONE._replace(convolution_1d="M1")
NORMALIZERS = (
    normalizers.standardize(((1.0, 2.0), (3.0, 0.0))),
    normalizers.min_max(((0.0, 1.0), (1.0, 1.0)), ((0.0,), (2.0,))),
    normalizers.image(),
    normalizers.multi_standardize([((1.0,), (2.0,))], [((1.0,), (2.0,))]),
    normalizers.multi_min_max([((1.0,), (2.0,))]),
)


pytestmark = pytest.mark.timeout(0 if LONG else 300)
tried = {"translated": 0, "refused": 0}


def fuzzed(test: Callable[..., None]) -> Callable[[Path], None]:
    """Tries the same 100 files, or random ones for a fifth of the given seconds."""
    suppressed = list(HealthCheck)
    some = settings(
        max_examples=100, derandomize=not LONG, database=None, deadline=None, suppress_health_check=suppressed
    )(test)

    @wraps(some)
    def go(path: Path) -> None:
        end = time.monotonic() + LONG / 5
        some(path)
        while time.monotonic() < end:
            some(path)
        print(tried)

    return go


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "m.zip"


def survives(path: Path, declared: list[TensorSpec]) -> None:
    began, message = time.process_time(), "it is translated"
    try:
        data = model_bytes(str(path), declared, CHOICES)
    except LoadError as error:
        message = str(error)
        tried["refused"] += 1
    else:
        tried["translated"] += 1
        onnx.load_from_string(data)
    assert 0 < len(message) < 1000
    assert message.isprintable()
    assert time.process_time() - began < SECONDS


def declared(name: str) -> list[TensorSpec]:
    """The inputs as model.toml would declare them."""
    network = NETWORKS[name]
    names = network.configuration.get("networkInputs", ["in"])
    return [TensorSpec(k, "", (-1, *shape[1:])) for k, shape in zip(names, network.inputs.values(), strict=True)]


@cache
def entries(name: str) -> dict[str, bytes]:
    made = io.BytesIO()
    zips.write(made, NETWORKS[name].configuration, NETWORKS[name].coefficients())  # type: ignore[arg-type]
    with zipfile.ZipFile(made) as file:
        return {each: file.read(each) for each in file.namelist()}


def packed(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)


number = st.integers(0, 10**6)
change = st.tuples(number, number, st.sampled_from(mutations.HOW), number)
edit = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["set", "set", "drop", "insert", "copy", "cut"]),
    st.one_of(st.binary(max_size=8), st.sampled_from([bytes(8), b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\1"])),
)
a_network, edits = st.sampled_from(sorted(NETWORKS)), st.lists(edit, min_size=1, max_size=4)


@fuzzed
@given(st.binary(max_size=300))
def test_any_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    survives(path, [])


@fuzzed
@given(a_network, edits)
def test_a_zip_with_other_bytes(path: Path, name: str, edits: list[tuple[float, str, bytes]]) -> None:
    packed(path, entries(name))
    path.write_bytes(mutations.edited(path.read_bytes(), edits))
    survives(path, declared(name))


@fuzzed
@given(a_network, st.sampled_from(["configuration.json", "coefficients.bin"]), edits)
def test_an_entry_with_other_bytes(path: Path, name: str, entry: str, edits: list[tuple[float, str, bytes]]) -> None:
    changed = dict(entries(name))
    changed[entry] = mutations.edited(changed.get(entry, b""), edits)
    packed(path, changed)
    survives(path, declared(name))


@fuzzed
@given(a_network, st.sampled_from(NORMALIZERS), edits)
def test_a_normalizer_with_other_bytes(
    path: Path, name: str, data: bytes, edits: list[tuple[float, str, bytes]]
) -> None:
    packed(path, entries(name) | {"normalizer.bin": mutations.edited(data, edits)})
    survives(path, declared(name))


@fuzzed
@given(a_network, st.booleans(), st.lists(change, min_size=1, max_size=3))
def test_a_network_that_says_something_else(
    path: Path, name: str, with_shapes: bool, changes: list[mutations.Change]
) -> None:
    configuration = mutations.changed(NETWORKS[name].configuration, changes)
    zips.write(path, configuration, NETWORKS[name].coefficients())
    survives(path, declared(name) if with_shapes else [])
