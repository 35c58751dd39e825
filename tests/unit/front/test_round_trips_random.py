"""Every datatype and shape through every codec, there and back: what hypothesis thinks of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.front.dialects.v2.grpc_tensors import CONTENTS_FIELDS
from runtimes.contract import DATATYPES, numpy_dtype
from tests.support.front_server import Serving
from tests.unit.front import test_round_trips as trips

WAYS = [trips.through_json, trips.through_binary, trips.through_typed, trips.through_raw, trips.through_npy]
PAIRS = [
    (way, datatype)
    for way in WAYS
    for datatype in DATATYPES
    if not (way is trips.through_typed and datatype not in CONTENTS_FIELDS)
    and not (way is trips.through_npy and datatype == "BYTES")
]


def arrays(datatype: str, least_rank: int) -> st.SearchStrategy[np.ndarray]:
    dtype = numpy_dtype(datatype)
    shapes = hnp.array_shapes(min_dims=least_rank, max_dims=5, min_side=1, max_side=4)  # no rows are refused
    if datatype != "BYTES":
        return hnp.arrays(dtype, shapes)
    return shapes.flatmap(lambda shape: hnp.arrays(object, shape, elements=st.binary(max_size=12), fill=st.nothing()))


@pytest.mark.parametrize(("way", "datatype"), PAIRS, ids=lambda each: getattr(each, "__name__", each))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_values_come_back_as_they_went(
    serving: Serving, way: Callable[[Serving, np.ndarray, str], np.ndarray], datatype: str, data: Any
) -> None:
    # numpy makes a list of a scalar before it saves it in Fortran's order.
    array = data.draw(arrays(datatype, least_rank=way is trips.through_npy))
    trips.same(way(serving, array, datatype), array)
