"""A session runs without the Python of `InferenceSession.run`. The real one is in tests/contract."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from runtimes.onnx.direct import direct_run


class Session:
    """Has the attributes of a session that are used."""

    def __init__(self, inner: bool) -> None:
        if inner:
            self._sess = SimpleNamespace(run=lambda *given: ["inner", *given])

    def run(self, *given: Any) -> list[Any]:
        return ["outer", *given]


def test_the_inner_session_runs() -> None:
    x = np.ones(1)
    assert direct_run(Session(inner=True))(["y"], {"x": x}, "options") == ["inner", ["y"], {"x": x}, "options"]


def test_without_an_inner_session_the_public_function_runs() -> None:
    x = np.ones(1)
    assert direct_run(Session(inner=False))(["y"], {"x": x}, "options") == ["outer", ["y"], {"x": x}, "options"]
