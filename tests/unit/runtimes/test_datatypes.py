"""Sizes and kinds follow from one record of a datatype, even if numpy has no such type."""

import sys
from pathlib import Path

import numpy as np
import pytest

from gateway.codecs.json_tensors import raw_tensor
from gateway.domain.differences import looks_like_classes
from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.validate import validate
from gateway.errors import InvalidRequest
from gateway.front.dialects.tfserving import classify, tensor_proto
from gateway.front.dialects.v2.grpc_tensors import CONTENTS_FIELDS
from gateway.front.dialects.v2.raw_request import read_raw
from runtimes import array_files, datatypes
from runtimes.contract import DATATYPES, Datatype, LoadError, Signature, TensorSpec, datatype_of, kind_of, numpy_dtype
from runtimes.tensors import Tensor, to_array, widened
from runtimes.worker import start


def status(spec: TensorSpec, *outputs: TensorSpec) -> ModelStatus:
    return ModelStatus("m", "1", "READY", signatures={"default": Signature((spec,), outputs)})


LACKING = [each for each in DATATYPES.values() if each.typestr is None]


@pytest.fixture
def without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the environments of frameworks that do not need the package."""
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    monkeypatch.setattr(datatypes, "numpy_dtype", datatypes._NumpyDtypes().__getitem__)


@pytest.mark.parametrize("known", DATATYPES.values(), ids=DATATYPES)
def test_a_record_agrees_with_numpy(known: Datatype) -> None:
    kinds = {"bool": "b", "uint": "u", "int": "i", "float": "f", "bytes": "O"}
    dtype = numpy_dtype(known.name)
    assert widened(np.zeros(1, dtype)).dtype.kind == kinds[known.kind]
    assert known.itemsize == (0 if known.kind == "bytes" else dtype.itemsize)
    assert datatype_of(dtype) == known.name
    assert datatype_of(dtype.type) == known.name


@pytest.mark.parametrize("known", LACKING, ids=lambda known: known.name)
def test_what_numpy_lacks_is_found_by_its_name(known: Datatype, without_ml_dtypes: None) -> None:
    assert datatype_of(known.ml_dtypes) == known.name
    with pytest.raises(KeyError):
        datatype_of("V2")


@pytest.mark.parametrize("known", LACKING, ids=lambda known: known.name)
def test_a_datatype_without_its_package_is_refused_in_words(known: Datatype, without_ml_dtypes: None) -> None:
    assert not datatypes.has_dtype(known.name)
    with pytest.raises(ValueError, match=f"{known.name} needs the Python package ml_dtypes"):
        datatypes.numpy_dtype(known.name)


def test_a_model_with_such_a_tensor_is_not_loaded_without_the_package(
    without_ml_dtypes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "numpy_dtype", datatypes.numpy_dtype)
    with pytest.raises(LoadError, match="'x' cannot be served: INT4 needs the Python package ml_dtypes"):
        start._check_dtype(TensorSpec("x", "INT4", (1,)))


def test_raw_sizes_of_a_datatype_that_numpy_lacks() -> None:
    model = status(TensorSpec("x", "BF16", (-1, 3)), TensorSpec("y", "BF16", (-1, 3)))
    assert read_raw(model, bytes(12)) == Tensor("x", "BF16", (2, 3), bytes(12))
    with pytest.raises(InvalidRequest, match="a body of 11 bytes does not fit"):
        read_raw(model, bytes(11))
    validate(InferRequest("m", [raw_tensor("x", "BF16", (2, 3), bytes(12))]), model)
    with pytest.raises(InvalidRequest, match=r"24 bytes of data, but BF16 of shape \[2, 3\] needs 12"):
        validate(InferRequest("m", [Tensor("x", "BF16", (2, 3), bytes(24))]), model)
    with pytest.raises(ValueError, match="its data has 8 bytes, but BF16"):
        to_array(Tensor("x", "BF16", (2,), bytes(8)))


def test_kinds_of_a_datatype_that_numpy_lacks() -> None:
    assert kind_of("BF16") == "float"
    assert looks_like_classes((-1, 10), "BF16")
    scores = Signature((TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("scores", "BF16", (-1, 10)),))
    assert classify.supports(scores, classify.CLASSIFY)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_arrays_in_files_keep_their_datatype(datatype: str, tmp_path: Path) -> None:
    given = np.array([[b"a", b"b\0"]] if datatype == "BYTES" else [[0, 1]], numpy_dtype(datatype))
    array_files.write(str(tmp_path / "a.npz"), {"file": given})
    (found,) = array_files.read(str(tmp_path / "a.npz")).values()
    assert found.dtype == given.dtype
    assert found.tolist() == given.tolist()


def test_what_is_no_datatype_has_no_dtype() -> None:
    with pytest.raises(KeyError):
        numpy_dtype("FP8")


def test_formats_have_a_field_for_every_datatype() -> None:
    """Each format has its own table; this test fails if a new datatype is missing in one."""
    assert set(DATATYPES) - set(CONTENTS_FIELDS) == {"FP16", *(each.name for each in LACKING)}
    assert set(tensor_proto.DTYPES) == {"", *DATATYPES}


def test_no_strings_of_a_shape_beyond_any_memory_are_refused_at_once() -> None:
    """A worker's array has a pointer per string, and numpy limits their total size even for an empty array."""
    tensor = Tensor("x", "BYTES", (0, 1 << 61), b"")
    with pytest.raises(InvalidRequest, match="larger than any memory"):
        validate(InferRequest("m", [tensor]), status(TensorSpec("x", "BYTES", None)))
    tensor = Tensor("x", "BYTES", (0, 1 << 59), b"")
    validate(InferRequest("m", [tensor]), status(TensorSpec("x", "BYTES", None)))
    assert np.empty(tensor.shape, object).size == 0
