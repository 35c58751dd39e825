"""A session runs without the Python of `InferenceSession.run`. The real one is in tests/contract."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runtimes.contract import InvalidInput
from runtimes.onnx.direct import direct_run


class Session:
    """Has the attributes of a session that are used."""

    def __init__(self, inner: bool) -> None:
        if inner:
            self._sess = SimpleNamespace(run=lambda *given: ["inner", *given])

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x"), SimpleNamespace(name="mask")]

    def run(self, *given: Any) -> list[Any]:
        return ["outer", *given]


def test_the_inner_session_runs_what_has_all_inputs() -> None:
    run, x = direct_run(Session(inner=True), "options"), np.ones(1)
    assert run(["y"], {"x": x, "mask": x}) == ["inner", ["y"], {"x": x, "mask": x}, "options"]
    with pytest.raises(InvalidInput, match=r"^input 'mask' is missing$"):
        run(["y"], {"x": x})


def test_without_an_inner_session_the_public_function_runs() -> None:
    x = np.ones(1)
    assert direct_run(Session(inner=False), None)(["y"], {"x": x}) == ["outer", ["y"], {"x": x}]
