"""The arrays of a program as inputs, for models whose requests may leave inputs out."""

import numpy as np
import pytest

from gateway.embedded.arrays import named_inputs
from gateway.errors import InvalidRequest
from runtimes.contract import Signature, TensorSpec

INPUTS = tuple(TensorSpec(name, "FP32", (-1, 2)) for name in ("x", "mask"))
X = np.zeros((1, 2))


def test_an_array_is_the_only_input_that_is_needed() -> None:
    assert named_inputs(X, {}, Signature(INPUTS, (), {}, ("mask",))) == {"x": X}
    assert named_inputs(X, {}, Signature(INPUTS, (), {}, ("x",))) == {"mask": X}
    assert named_inputs(X, {}, Signature(INPUTS[:1], (), {}, ("x",))) == {"x": X}
    for optional in ((), ("x", "mask")):
        with pytest.raises(InvalidRequest, match="the model has 2 inputs, so an array needs a name"):
            named_inputs(X, {}, Signature(INPUTS, (), {}, optional))
