"""Which models may have a response cache, by their configuration and by what their worker found."""

from typing import Any

import pytest

from gateway.lifecycle.model_version import uncacheable
from gateway.repository.model_toml import ModelToml
from runtimes.contract import BatchAnalysis
from runtimes.control import Ready

LOADED = Ready({}, 8, 16, "", "")


@pytest.mark.parametrize(
    ("toml", "loaded", "reason"),
    [
        ({}, {}, ""),
        ({"stateful": True}, {}, "its answers depend on earlier requests"),
        ({"sequence": {"strategy": "oldest"}}, {}, "its answers depend on earlier requests"),
        ({}, {"decoupled": True}, "it gives several answers"),
        ({}, {"takes_context": True}, "its answers may depend on more than the tensors of a request"),
        ({}, {"calls_models": True}, "its answers may depend on more than the tensors of a request"),
        (
            {},
            {"varies": "RandomNormal 'r' is random"},
            "the same request may get another answer: RandomNormal 'r' is random",
        ),
    ],
)
def test_only_functions_of_their_tensors_may(toml: dict[str, Any], loaded: dict[str, Any], reason: str) -> None:
    assert uncacheable(ModelToml(**toml), LOADED._replace(**loaded)) == reason


def test_what_a_graph_says_of_chance_and_state() -> None:
    assert BatchAnalysis().varies == ""
    assert BatchAnalysis(("'d' takes one scale from all rows",), (), ("Custom 'c'",)).varies == ""
    assert BatchAnalysis(("Multinomial 'm' is random",)).varies == "Multinomial 'm' is random"
    assert BatchAnalysis(unknown=("Dropout 'd' may be random",)).varies == "Dropout 'd' may be random"
    assert BatchAnalysis(writes=("a variable is written to",)).varies == "a variable is written to"


@pytest.mark.parametrize(("value", "expected"), [(True, True), (False, False), ("2MiB", 2 << 20), (4096, 4096)])
def test_the_size_of_a_cache(value: Any, expected: Any) -> None:
    found = ModelToml(response_cache=value).response_cache
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("value", [0, -1, "0", "much", 1.5, []])
def test_invalid_sizes(value: Any) -> None:
    with pytest.raises(
        ValueError, match='it must be true, false, a number of bytes of at least 1, or text such as "64MiB"'
    ):
        ModelToml(response_cache=value)
