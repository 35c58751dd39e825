"""Sizes and kinds follow from one record of a datatype, even if numpy has no such type."""

from collections.abc import Iterator

import numpy as np
import pytest

from gateway.codecs.json_tensors import raw_tensor, read_tensor
from gateway.domain.differences import looks_like_classes
from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.validate import validate
from gateway.errors import InvalidRequest
from gateway.front.dialects.tfserving import classify, tensor_proto
from gateway.front.dialects.v2.grpc_tensors import CONTENTS_FIELDS
from gateway.front.dialects.v2.raw_request import read_raw
from runtimes.contract import DATATYPES, Datatype, Signature, TensorSpec, datatype_of, kind_of, numpy_dtype
from runtimes.tensors import Tensor, to_array


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(DATATYPES, "BF16", Datatype("BF16", 2, "float", None))
    return "BF16"


def status(spec: TensorSpec, *outputs: TensorSpec) -> ModelStatus:
    return ModelStatus("m", "1", "READY", signatures={"default": Signature((spec,), outputs)})


@pytest.mark.parametrize("known", DATATYPES.values(), ids=DATATYPES)
def test_a_record_agrees_with_numpy(known: Datatype) -> None:
    kinds = {"bool": "b", "uint": "u", "int": "i", "float": "f", "bytes": "O"}
    assert numpy_dtype(known.name).kind == kinds[known.kind]
    assert known.itemsize == (0 if known.kind == "bytes" else numpy_dtype(known.name).itemsize)
    assert datatype_of(numpy_dtype(known.name)) == known.name


def test_raw_sizes_of_a_datatype_that_numpy_lacks(bf16: str) -> None:
    model = status(TensorSpec("x", bf16, (-1, 3)), TensorSpec("y", bf16, (-1, 3)))
    assert read_raw(model, bytes(12)) == Tensor("x", bf16, (2, 3), bytes(12))
    with pytest.raises(InvalidRequest, match="a body of 11 bytes does not fit"):
        read_raw(model, bytes(11))
    validate(InferRequest("m", [raw_tensor("x", bf16, (2, 3), bytes(12))]), model)
    with pytest.raises(InvalidRequest, match=r"24 bytes of data, but BF16 of shape \[2, 3\] needs 12"):
        validate(InferRequest("m", [Tensor("x", bf16, (2, 3), bytes(24))]), model)


def test_kinds_of_a_datatype_that_numpy_lacks(bf16: str) -> None:
    assert kind_of(bf16) == "float"
    assert looks_like_classes((-1, 10), bf16)
    scores = Signature((TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("scores", bf16, (-1, 10)),))
    assert classify.supports(scores, classify.CLASSIFY)


def test_an_array_of_what_numpy_lacks_is_refused_in_words(bf16: str) -> None:
    with pytest.raises(ValueError, match="numpy has no BF16, so it can only be passed on as bytes"):
        numpy_dtype(bf16)
    with pytest.raises(ValueError, match="numpy has no BF16"):
        to_array(Tensor("x", bf16, (2,), bytes(4)))
    with pytest.raises(ValueError, match="its data has 8 bytes, but BF16"):
        to_array(Tensor("x", bf16, (2,), bytes(8)))


def test_json_has_no_numbers_for_what_numpy_lacks(bf16: str) -> None:
    with pytest.raises(InvalidRequest, match="input 'x' has datatype BF16, which JSON lacks; send its bytes"):
        read_tensor("x", [1.0], bf16)


def test_what_is_no_datatype_has_no_dtype() -> None:
    with pytest.raises(KeyError):
        numpy_dtype("FP8")


def test_formats_have_a_field_for_every_datatype() -> None:
    """Each format has its own table; this test fails if a new datatype is missing in one."""
    assert set(DATATYPES) - set(CONTENTS_FIELDS) == {"FP16"}
    assert set(tensor_proto.DTYPES) == {"", *DATATYPES}


def test_no_strings_of_a_shape_beyond_any_memory_are_refused_at_once() -> None:
    """A worker's array has a pointer per string, and numpy limits their total size even for an empty array."""
    tensor = Tensor("x", "BYTES", (0, 1 << 61), b"")
    with pytest.raises(InvalidRequest, match="larger than any memory"):
        validate(InferRequest("m", [tensor]), status(TensorSpec("x", "BYTES", None)))
    tensor = Tensor("x", "BYTES", (0, 1 << 59), b"")
    validate(InferRequest("m", [tensor]), status(TensorSpec("x", "BYTES", None)))
    assert np.empty(tensor.shape, object).size == 0
