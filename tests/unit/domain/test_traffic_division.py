"""How requests are divided among versions: shares, what moves when they change, and versions that cannot answer."""

from collections import Counter
from random import Random

import pytest

from gateway.domain.traffic import Division, Shadow, Traffic, divide, shadow_problem, traffic_from_json, unlike
from gateway.domain.types import ModelStatus
from runtimes.contract import Signature, TensorSpec

X, Y = TensorSpec("x", "FP32", (-1, 4)), TensorSpec("y", "FP32", (-1, 2))


def status(
    version: str, inputs: tuple[TensorSpec, ...] = (X,), outputs: tuple[TensorSpec, ...] = (Y,), **others: object
):  # type: ignore[no-untyped-def]
    values = {"state": "READY", "admits": True, "signatures": {"default": Signature(inputs, outputs)}, **others}
    return ModelStatus("m", version, **values)


def division(weights: dict[str, float], *statuses: ModelStatus) -> Division:
    found = divide(Traffic(weights), statuses or [status(version) for version in weights])
    assert found is not None
    return found


def keys(count: int = 20_000) -> list[bytes]:
    random = Random(1)
    return [random.randbytes(8) for _ in range(count)]


@pytest.mark.parametrize("weights", [{"3": 95, "4": 5}, {"3": 1, "4": 1}, {"1": 0.2, "2": 0.3, "3": 0.5}])
def test_each_version_gets_its_share(weights: dict[str, float]) -> None:
    chosen = Counter(map(division(weights).choose, keys()))
    total = sum(weights.values())
    for version, weight in weights.items():
        expected = weight / total
        sigma = (expected * (1 - expected) * 20_000) ** 0.5
        assert abs(chosen[version] - expected * 20_000) < 5 * sigma


def test_only_keys_of_a_version_that_leaves_move_and_they_go_to_the_others_by_weight() -> None:
    before = division({"2": 50, "3": 30, "4": 20})
    after = division({"2": 50, "3": 30, "4": 20}, status("2"), status("3"), status("4", admits=False, state="LOADING"))
    moved: Counter[str] = Counter()
    for key in keys():
        old, new = before.choose(key), after.choose(key)
        assert old == new or old == "4"
        if old == "4":
            moved[new] += 1
    assert set(moved) == {"2", "3"}
    assert abs(moved["2"] / sum(moved.values()) - 50 / 80) < 0.04


def test_a_growing_share_only_takes_keys() -> None:
    before, after = division({"3": 95, "4": 5}), division({"3": 90, "4": 10})
    assert {(before.choose(key), after.choose(key)) for key in keys()} == {("3", "3"), ("3", "4"), ("4", "4")}


def test_a_version_that_is_not_ready_or_not_loaded_has_a_reason_and_no_share() -> None:
    found = division(
        {"3": 1, "4": 1, "5": 1}, status("3"), status("4", admits=False, state="UNAVAILABLE", reason="bad")
    )
    assert found.shares == {"3": 1.0}
    assert found.reasons == {"4": "it is UNAVAILABLE: bad", "5": "it is not loaded; add it to version_policy"}


def test_nothing_is_divided_without_weights_or_without_a_version_that_could_answer() -> None:
    assert divide(Traffic(), [status("3")]) is None
    assert divide(Traffic({"3": 0.0}), [status("3")]) is None
    assert divide(Traffic({"4": 1}), [status("3")]) is None


def test_the_primary_version_has_the_highest_weight_and_of_equals_the_newest() -> None:
    assert division({"9": 5, "10": 5, "2": 4}).primary.version == "10"


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (status("4", inputs=(X._replace(datatype="FP64"),)), "its input 'x' differs from that of version 3"),
        (status("4", inputs=(X._replace(shape=(-1, 5)),)), "its input 'x' differs from that of version 3"),
        (status("4", inputs=(X._replace(name="z"),)), "its input 'x' differs from that of version 3"),
        (
            status("4", inputs=(X, TensorSpec("z", "FP32", (1,)))),
            "it needs the input 'z', which version 3 does not have",
        ),
        (status("4", outputs=(Y._replace(datatype="INT64"),)), "its output 'y' differs from that of version 3"),
        (
            status("4", signatures={"other": Signature((X,), (Y,))}),
            "it has no signature 'default', which version 3 has",
        ),
        (
            status("4", signatures={"other": Signature((X,), (Y,)), "default": Signature((X,), (Y,))}),
            "its default signature is 'other', and that of version 3 is 'default'",
        ),
        (status("4", decoupled=True), "it is another kind of model than version 3"),
    ],
)
def test_a_version_that_requests_for_the_primary_might_not_fit_gets_no_share(other: ModelStatus, problem: str) -> None:
    found = division({"3": 95, "4": 5}, status("3"), other)
    assert found.shares == {"3": 1.0}
    assert found.reasons["4"].startswith(problem)


def test_a_version_that_is_loaded_on_demand_gets_its_share_before_it_is_known() -> None:
    found = division({"3": 95, "4": 5}, status("3"), status("4", state="UNLOADED", signatures={}))
    assert found.shares == {"3": 0.95, "4": 0.05}


def test_a_version_may_accept_more_and_return_more() -> None:
    wide = status(
        "4",
        inputs=(X._replace(shape=(-1, -1)),),
        outputs=(Y._replace(shape=(-1, 9)), TensorSpec("more", "FP32", None)),
    )
    assert unlike(status("3"), wide) == ""
    assert unlike(wide, status("3")) == "its input 'x' differs from that of version 4"


def needs(version: str, optional: tuple[str, ...], **outputs: str) -> ModelStatus:
    """A version with the inputs x and z; `outputs`: each with the inputs that it needs, one letter each."""
    inputs, made = ((TensorSpec(name, "FP32", (-1,)) for name in names) for names in ("xz", outputs))
    found = {name: tuple(given) for name, given in outputs.items() if given}
    return status(version, signatures={"default": Signature(tuple(inputs), tuple(made), {}, optional, found)})


def test_a_version_that_needs_what_the_primary_can_do_without_gets_no_share() -> None:
    problem = "it needs the input 'z', which requests for version 3 may leave out"
    assert unlike(needs("3", ("z",), y=""), needs("4", (), y="")) == problem
    assert unlike(needs("3", (), y=""), needs("4", ("z",), y="")) == ""
    assert unlike(needs("3", ("z",), y="x", loss="xz"), needs("4", ("z",), y="x", loss="xz")) == ""
    assert unlike(needs("3", ("z",), y="x", loss="xz"), needs("4", ("z",), y="xz", loss="xz")) == problem
    assert unlike(needs("3", (), y="x", loss="xz"), needs("4", (), y="xz", loss="xz")) == problem


def test_json_preserves_it() -> None:
    for traffic in (Traffic(), Traffic({"3": 1.5}, "x-user", True, Shadow("4", "3", 0.25))):
        raw = [list(each) if isinstance(each, tuple) else each for each in traffic]
        assert traffic_from_json(raw) == traffic


def test_models_that_are_more_than_a_function_have_no_shadows() -> None:
    assert shadow_problem(status("4"), status("3")) == ""
    assert "cannot be copied" in shadow_problem(status("4", stateful=True), status("3"))
    assert "cannot be copied" in shadow_problem(status("4"), status("3", sequence=True))
    assert "its input 'x' differs" in shadow_problem(status("4", inputs=(X._replace(datatype="FP64"),)), status("3"))
