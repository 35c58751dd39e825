"""Which version answers requests that name none: in the engine, by header, by identity and by sequence."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from random import Random

import numpy as np
import pytest

from gateway.domain.identity import Identity
from gateway.domain.table import Table, TableEntry, table_from_json, table_to_json
from gateway.domain.traffic import Traffic
from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.engine import FrontEngine
from gateway.engine.version_choice import VersionChoice
from gateway.errors import ModelportError, Unavailable
from runtimes.contract import SequenceControl, Signature, TensorSpec
from runtimes.tensors import from_array

SIGNATURES = {"default": Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))}
HALF = Traffic({"3": 50, "4": 50})


def status(version: str, **others: object) -> ModelStatus:
    values = {"state": "READY", "admits": True, "signatures": SIGNATURES, **others}
    return ModelStatus("m", version, **values)  # type: ignore[arg-type]


def request(version: str = "", **others: object) -> InferRequest:
    return InferRequest("m", [from_array("x", np.ones(1, np.float32))], version, **others)  # type: ignore[arg-type]


def choice(traffic: Traffic, *statuses: ModelStatus, seed: int = 0) -> VersionChoice:
    made = VersionChoice(Random(seed))
    made.apply({"m": traffic}, {"m": list(reversed(statuses or (status("3"), status("4"))))})
    return made


def engine_of(traffic: Mapping[str, Traffic], *statuses: ModelStatus) -> FrontEngine:
    engine = FrontEngine(1, AdmissionLimits(timeout_s=60.0), lambda *_: asyncio.sleep(0))
    table = Table(tuple(TableEntry(each) for each in statuses), True, traffic=traffic)
    engine.apply(table_from_json(table_to_json(table) | {"traffic": {k: list(v) for k, v in traffic.items()}}))
    return engine


def version_of(admitted: AdmittedRequest) -> str:
    return admitted.servable.status.version


def test_requests_are_divided_at_random_by_weight_and_reproducibly() -> None:
    traffic = Traffic({"3": 95, "4": 5})
    first, second = choice(traffic, seed=7), choice(traffic, seed=7)
    chosen = [first.choose(request(), None) for _ in range(10_000)]
    assert chosen == [second.choose(request(), None) for _ in range(10_000)]
    assert 400 < Counter(chosen)["4"] < 600


def test_a_request_that_names_a_version_or_another_model_is_left_alone() -> None:
    made = choice(HALF)
    assert made.choose(request("4"), None) == ""
    assert made.choose(request()._replace(model="other"), None) == ""


def test_a_header_keeps_its_version_in_all_fronts() -> None:
    fronts = [choice(HALF, seed=seed) for seed in (1, 2)]
    versions = set()
    for user in range(100):
        chosen = {front.choose(request(affinity=f"user {user}"), None) for front in fronts for _ in range(5)}
        assert len(chosen) == 1
        versions |= chosen
    assert versions == {"3", "4"}


def test_an_identity_keeps_its_version_only_if_that_is_asked_for() -> None:
    alice = Identity("alice", {})
    sticky = choice(HALF._replace(sticky_identity=True))
    assert len({sticky.choose(request(), alice) for _ in range(50)}) == 1
    assert len({choice(HALF, seed=seed).choose(request(), alice) for seed in range(50)}) == 2


def test_a_sequence_stays_at_its_version_when_the_weights_change() -> None:
    old, new = Traffic({"3": 1, "4": 0}), Traffic({"4": 1})
    made = choice(old)
    versions = {"m": [status("4"), status("3")]}
    started = [made.choose(request(sequence=SequenceControl(number, start=True)), None) for number in range(20)]
    assert set(started) == {"3"}
    made.apply({"m": new}, versions)
    following = [made.choose(request(sequence=SequenceControl(number)), None) for number in range(20)]
    assert following == started
    ended = made.choose(request(sequence=SequenceControl(3, end=True)), None)
    assert ended == "3"
    assert made.choose(request(sequence=SequenceControl(3, start=True)), None) == "4"
    assert made.choose(request(sequence=SequenceControl(4, start=True)), None) == "4"
    assert made.choose(request(sequence=SequenceControl(4)), None) == "4"
    # The version of the others ends: nothing is left to return to.
    made.apply({"m": new}, {"m": [status("4"), status("3", admits=False, state="UNAVAILABLE")]})
    assert made.choose(request(sequence=SequenceControl(5)), None) == "4"


def test_a_sequence_stays_at_its_version_when_its_model_gets_its_first_weights_and_when_it_loses_them() -> None:
    versions = {"m": [status("4", sequence=True), status("3", sequence=True)]}
    made = VersionChoice(Random(0))
    made.apply({}, versions)
    assert made.choose(request(sequence=SequenceControl(1, start=True)), None) == "4"
    made.apply({"m": Traffic({"3": 1})}, versions)
    assert made.choose(request(sequence=SequenceControl(1)), None) == "4"
    assert made.choose(request(sequence=SequenceControl(2, start=True)), None) == "3"
    made.apply({}, versions)
    assert made.choose(request(sequence=SequenceControl(2)), None) == "3"
    assert made.choose(request(sequence=SequenceControl(2, end=True)), None) == "3"
    assert made.choose(request(sequence=SequenceControl(2, start=True)), None) == "4"
    # Nothing is remembered of models that have no sequences.
    made.apply({}, {"m": [status("4"), status("3")]})
    assert made.choose(request(sequence=SequenceControl(3, start=True)), None) == ""
    assert made.choose(request(sequence=SequenceControl(3))._replace(model="other"), None) == ""


def test_integers_and_their_digits_are_different_sequences() -> None:
    made = choice(HALF)
    chosen = {
        made.choose(request(sequence=SequenceControl(each, start=True)), None) for each in (5, "5", 6, "6", 7, "7")
    }
    assert chosen == {"3", "4"}
    pairs = [
        (
            made.choose(request(sequence=SequenceControl(each, start=True)), None),
            made.choose(request(sequence=SequenceControl(str(each), start=True)), None),
        )
        for each in range(50)
    ]
    assert any(one != other for one, other in pairs)


def test_the_engine_admits_at_the_chosen_version_and_named_versions_as_before() -> None:
    async def test() -> None:
        engine = engine_of({"m": Traffic({"3": 1})}, status("3"), status("4"))
        assert version_of(engine.submit(request(), print)) == "3"
        assert version_of(engine.submit(request("4"), print)) == "4"
        assert engine.model("m").version == "3"
        assert engine.model("m", "4").version == "4"
        assert ("m", "") not in engine.routes.known, "the compiled path would answer with one version only"
        assert ("m", "4") in engine.routes.known
        engine.apply(Table(tuple(TableEntry(each) for each in (status("3"), status("4"))), True))
        assert version_of(engine.submit(request(), print)) == "4"
        assert ("m", "") in engine.routes.known

    asyncio.run(test())


def test_the_share_of_a_version_that_is_not_ready_goes_to_the_others_without_an_error() -> None:
    async def test() -> None:
        engine = engine_of({"m": HALF}, status("3"), status("4", admits=False, state="LOADING"))
        assert {version_of(engine.submit(request(), print)) for _ in range(50)} == {"3"}

    asyncio.run(test())


def test_a_version_without_a_weight_does_not_stand_in() -> None:
    async def test() -> None:
        engine = engine_of({"m": Traffic({"3": 1})}, status("3", admits=False, state="LOADING"), status("4"))
        with pytest.raises(Unavailable, match="LOADING"):
            engine.submit(request(), print)
        assert version_of(engine.submit(request("4"), print)) == "4"

    asyncio.run(test())


def test_a_version_without_a_weight_does_not_stand_in_for_one_that_is_not_loaded() -> None:
    async def test() -> None:
        engine = engine_of({"m": Traffic({"3": 1, "4": 0})}, status("4"))
        with pytest.raises(Unavailable, match="no loaded version with a weight, only 3 may"):
            engine.submit(request(), print)
        engine.reserve_body("m", "").close(Unavailable("its body could not be read"))
        assert version_of(engine.submit(request("4"), print)) == "4"

    asyncio.run(test())


def test_a_child_request_without_a_version_is_divided_and_keeps_the_affinity_of_its_parent() -> None:
    async def test() -> None:
        parent_model = ModelStatus(
            "parent", "1", "READY", admits=True, signatures=SIGNATURES, calls_models=True, takes_context=True
        )
        engine = engine_of({"m": HALF}, status("3"), status("4"), parent_model)
        for user in map(str, range(20)):
            direct = version_of(engine.submit(request(affinity=user), print))
            parent = engine.submit(request(affinity=user)._replace(model="parent"), print)
            assert version_of(engine.submit_child(parent, request(), print)) == direct

    asyncio.run(test())


def test_answers_have_the_outputs_of_the_primary_version() -> None:
    y, z, secret = (TensorSpec(name, "FP32", (-1,)) for name in ("y", "z", "secret"))
    inputs = SIGNATURES["default"].inputs
    first = {"default": Signature(inputs, (y, secret), refused={"secret": "it is a sequence"})}
    more = {"default": Signature(inputs, (z, y, secret), refused={"secret": "it is a sequence"})}

    async def test() -> None:
        engine = engine_of({"m": HALF._replace(weights={"3": 51, "4": 49})}, status("3", signatures=first),
                           status("4", signatures=more))  # fmt: skip
        asked: dict[str, set[object]] = {"3": set(), "4": set()}
        for _ in range(50):
            admitted = engine.submit(request(), print)
            assert admitted.request is not None
            asked[version_of(admitted)].add((tuple(admitted.request.outputs), admitted.layout[1]))
        assert asked == {"3": {((), ())}, "4": {(("y",), ("y",))}}
        named = engine.submit(request("4"), print)
        assert named.request is not None
        assert named.request.outputs == ()

    asyncio.run(test())


def test_requests_that_belong_together_can_have_one_version() -> None:
    async def test() -> None:
        engine = engine_of({"m": HALF}, status("3"), status("4"))
        assert {engine.choose_version(InferRequest("m", ())) for _ in range(50)} == {"3", "4"}
        assert engine.choose_version(InferRequest("m", (), "4")) == ""
        assert engine.choose_version(InferRequest("other", ())) == ""

    asyncio.run(test())


def test_an_unknown_version_is_still_not_found() -> None:
    async def test() -> None:
        engine = engine_of({"m": HALF}, status("3"), status("4"))
        with pytest.raises(ModelportError, match="no version '9'"):
            engine.submit(request("9"), print)

    asyncio.run(test())
