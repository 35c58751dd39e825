"""Which inputs a request may leave out follows from what the outputs need."""

import pytest

from gateway.score.signatures import wanted_outputs
from runtimes.contract import InvalidInput, Signature, TensorSpec
from runtimes.needs import chosen, with_needs


def signature(inputs: str, **needs: str) -> Signature:
    """`needs`: output → its inputs, one letter each."""
    specs = [tuple(TensorSpec(name, "FP32", (-1,)) for name in names) for names in (inputs, needs)]
    return with_needs(Signature(*specs), {name: set(given) for name, given in needs.items()})


@pytest.mark.parametrize(
    ("inputs", "needs", "optional"),
    [
        ("xl", {"z": "x", "loss": "xl"}, "l"),
        ("lx", {"loss": "xl", "z": "x", "more": "xl"}, "l"),
        ("ab", {"one": "a", "other": "b"}, ""),
        ("ab", {"one": "a", "other": "b", "both": "ab"}, ""),
        ("xl", {"constant": "", "z": "x", "loss": "xl"}, "l"),
        ("xl", {"z": "x"}, "l"),  # the loss is not served
    ],
)
def test_what_only_greedier_outputs_need_is_optional(inputs: str, needs: dict[str, str], optional: str) -> None:
    found = signature(inputs, **needs)
    assert found.optional == tuple(optional)
    assert {name: set(each) for name, each in found.needs.items()} == {name: set(each) for name, each in needs.items()}


def test_nothing_changes_if_all_outputs_need_the_same() -> None:
    found = signature("ab", y="ab", z="ab")
    assert (found.needs, found.optional) == ({}, ())
    assert found.outputs_from(["a"]) == ["y", "z"]


def test_a_request_gets_what_it_names_or_what_can_be_computed() -> None:
    found = signature("xl", z="x", loss="xl")
    assert chosen(found, (), ["x"]) == (["z"], ["x"])
    assert chosen(found, (), ["x", "l"]) == (["z", "loss"], ["x", "l"])
    assert chosen(found, ["z"], ["x", "l"]) == (["z"], ["x"])
    for outputs, given, missing in (((), ["l"], "x"), (["loss"], ["x"], "l"), (["z"], [], "x")):
        with pytest.raises(InvalidInput, match=f"input '{missing}' is missing"):
            chosen(found, outputs, given)
    towers = signature("ab", one="a", other="b")
    assert chosen(towers, ["other"], ["b"]) == (["other"], ["b"])
    with pytest.raises(InvalidInput, match="input 'a' is missing"):
        chosen(towers, (), ["b"])


def test_tables_are_scored_without_the_loss() -> None:
    """Even if they have labels, unless the loss is asked for."""
    found = signature("xl", z="x", loss="xl")
    assert wanted_outputs(found, ()) == ["z"]
    assert wanted_outputs(found, ("loss",)) == ["loss"]
    assert wanted_outputs(signature("ab", y="ab"), ()) == []


def test_outputs_in_json_need_their_inputs_too() -> None:
    found = signature("xy", z="x", loss="xy")
    found = found._replace(refused={"loss": "it is a map"}, json=("loss",))
    assert found.outputs_from("x", as_json=True) == ["z"]
    assert found.outputs_from("xy", as_json=True) == ["z", "loss"]
    assert found.outputs_from("xy") == ["z"]


@pytest.mark.parametrize(
    ("inputs", "optional", "only"),
    [
        ("x", "", "x"),
        ("x", "x", "x"),
        ("xy", "y", "x"),
        ("xy", "x", "y"),
        ("xy", "", ""),
        ("xy", "xy", ""),
        ("", "", ""),
    ],
)
def test_shorthand_is_for_the_only_input_that_is_needed(inputs: str, optional: str, only: str) -> None:
    found = signature(inputs)._replace(optional=tuple(optional)).only_input()
    assert (found.name if found else "") == only
