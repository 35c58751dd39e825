"""What is in force of a model's traffic: its files, changes at run time, promotion, rollback."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.domain.traffic import Shadow, Traffic, describe
from gateway.domain.types import ModelStatus
from gateway.errors import InvalidRequest, NotFound, Unavailable
from gateway.lifecycle.policy import VersionKey
from gateway.process.niceness import own_nice
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelToml
from gateway.supervisor import traffic as traffic_module
from gateway.supervisor.traffic import TrafficBook
from runtimes.contract import Signature, TensorSpec

SIGNATURES = {"default": Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))}


def status(version: str, **others: Any) -> ModelStatus:
    values = {"signatures": SIGNATURES, "admits": True, "state": "READY", **others}
    return ModelStatus("m", version, **values)


class Bench:
    """A book over a manager with versions 3 and 4 of a model, whose configuration a test changes."""

    def __init__(self, **toml: Any) -> None:
        self.manager: Any = SimpleNamespace(versions={})
        self.configure(**toml)
        self.book = TrafficBook(self.manager)
        self.apply(status("3"), status("4"))

    def configure(self, fingerprint: str = "a", **toml: Any) -> None:
        config = ModelToml.model_validate({"traffic": toml} if toml else {})
        for number, pid in (("3", 30), ("4", 40)):
            workers = [SimpleNamespace(pid=pid, ready=True)]
            self.manager.versions[VersionKey("m", number, fingerprint)] = SimpleNamespace(
                config=ModelConfig("m", number, fingerprint, toml=config, config_fingerprint=fingerprint),
                workers=workers,
            )

    def apply(self, *statuses: ModelStatus) -> None:
        self.in_force = self.book.apply(statuses or [status("3"), status("4")])

    def shares(self) -> dict[str, float]:
        return {each["version"]: each["share"] for each in self.book.get("m")["versions"]}


@pytest.fixture(autouse=True)
def nice(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """The priorities that were set, by process."""
    found: dict[int, int] = {}
    monkeypatch.setattr(traffic_module, "is_reversible", lambda: True)
    monkeypatch.setattr(traffic_module, "set_nice", lambda pid, value: found.update({pid: value}) or True)
    return found


def test_without_anything_the_newest_gets_all_and_fronts_are_told_nothing() -> None:
    bench = Bench()
    assert bench.in_force == {}
    assert bench.shares() == {"4": 1.0, "3": 0.0}
    assert bench.book.get("m")["source"] == "default"
    with pytest.raises(NotFound):
        bench.book.get("nobody")


def test_the_configuration_holds_until_it_is_changed_at_run_time_and_again_when_its_files_change() -> None:
    bench = Bench(weights={"3": 95, "4": 5})
    assert bench.shares() == {"4": 0.05, "3": 0.95}
    assert bench.book.get("m")["source"] == "model.toml"
    bench.book.change("m", {"weights": {"3": 1, "4": 1}, "sticky_header": "X-User"})
    bench.apply()
    assert bench.in_force == {"m": Traffic({"3": 1, "4": 1}, "x-user")}
    assert bench.book.get("m")["source"] == "run time"
    bench.manager.versions.clear()
    bench.configure("b", weights={"3": 1})
    bench.apply()
    assert bench.in_force == {"m": Traffic({"3": 1})}
    with pytest.raises(InvalidRequest, match="was not changed at run time"):
        bench.book.roll_back("m")


def test_promotion_and_rollback_step_by_step() -> None:
    bench = Bench(weights={"3": 1}, shadow={"version": 4, "of": 3})
    bench.book.change("m", {"weights": {"3": 90, "4": 10}})
    bench.book.promote("m", "4")
    found = bench.book.get("m")
    assert (bench.shares(), found["shadow"], found["can_roll_back"]) == ({"4": 1.0, "3": 0.0}, None, True)
    bench.book.roll_back("m")
    assert bench.shares() == {"4": 0.1, "3": 0.9}
    assert bench.book.get("m")["shadow"] == {"version": "4", "of": "3", "share": 1.0}
    bench.book.roll_back("m")
    assert bench.shares() == {"4": 0.0, "3": 1.0}
    assert bench.book.get("m")["source"] == "model.toml"
    with pytest.raises(InvalidRequest):
        bench.book.roll_back("m")


def test_the_number_of_steps_is_bounded() -> None:
    bench = Bench()
    for number in range(100):
        bench.book.change("m", {"weights": {"3": number + 1}})
    for _ in range(32):
        bench.book.roll_back("m")
    with pytest.raises(InvalidRequest):
        bench.book.roll_back("m")


def test_a_version_that_is_not_ready_or_not_loaded_is_refused_and_nothing_changes() -> None:
    bench = Bench(weights={"3": 1})
    bench.apply(status("3"), status("4", admits=False, state="LOADING"))
    with pytest.raises(Unavailable, match="no version with a weight could answer: 4 is LOADING"):
        bench.book.promote("m", "4")
    with pytest.raises(InvalidRequest, match="version 5 of model 'm' is not loaded"):
        bench.book.change("m", {"weights": {"5": 1}})
    assert bench.shares() == {"4": 0.0, "3": 1.0}
    assert not bench.book.get("m")["can_roll_back"]


def test_a_shadow_follows_the_weights_of_the_same_request_if_it_does_not_say_of_which_version() -> None:
    bench = Bench()
    bench.book.change("m", {"weights": {"3": 1}, "shadow": {"version": "4"}})
    bench.apply()
    assert bench.in_force["m"].shadow == Shadow("4", "3", 1.0)
    bench.book.change("m", {"shadow": None, "weights": None})
    bench.apply()
    assert bench.in_force == {}
    bench.apply(status("3"), status("4", stateful=True))
    with pytest.raises(InvalidRequest, match="cannot be copied to or from"):
        bench.book.change("m", {"shadow": {"version": "4", "of": "3"}})


@pytest.mark.parametrize("weights", [{"3": 1, "4": -1}, {"3": 1e999}, {"3": "many"}, ["3"], {"x": 1}])
def test_bad_weights_next_to_a_shadow_are_refused_in_words(weights: Any) -> None:
    bench = Bench()
    with pytest.raises(InvalidRequest, match="weights"):
        bench.book.change("m", {"weights": weights, "shadow": {"version": "4"}})
    bench.book.change("m", {"weights": {"03": 1}, "shadow": {"version": "4"}})
    assert bench.book.get("m")["shadow"]["of"] == "3"


@pytest.mark.parametrize("version", ["v4", "", "-4", "stable"])
def test_what_is_promoted_is_the_number_of_a_version(version: str) -> None:
    bench = Bench()
    with pytest.raises(InvalidRequest, match=f"^'{version}' is not the number of a version"):
        bench.book.promote("m", version)


def test_a_shadow_that_is_not_loaded_says_so() -> None:
    bench = Bench(weights={"3": 1}, shadow={"version": 4, "of": 3})
    assert bench.book.get("m")["shadow_problem"] == ""
    bench.apply(status("3"), status("4", state="UNLOADED"))
    assert bench.book.get("m")["shadow_problem"].startswith("nothing is copied while version 4 is UNLOADED")


def test_workers_of_a_shadow_have_the_lowest_priority_unless_it_answers_too(nice: dict[int, int]) -> None:
    bench = Bench(weights={"3": 1}, shadow={"version": 4, "of": 3})
    assert nice == {40: 19}
    bench.book.change("m", {"weights": {"3": 1, "4": 1}})
    bench.apply()
    assert nice == {40: own_nice()}
    bench.book.roll_back("m")
    bench.apply()
    assert nice == {40: 19}
    bench.book.change("m", {"shadow": None})
    bench.apply()
    assert nice == {40: own_nice()}


def test_a_weight_of_a_version_that_is_not_loaded_is_shown_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "traffic"):
        bench = Bench(weights={"3": 1})
        bench.apply(status("4"))
        bench.apply(status("4"))
    assert [record.message for record in caplog.records] == [
        "m: version 3 gets none of its share: it is not loaded; add it to version_policy"
    ]
    versions = bench.book.get("m")["versions"]
    assert [(each["version"], each["state"], each["share"]) for each in versions] == [
        ("4", "READY", 0.0),
        ("3", "UNAVAILABLE", 0.0),
    ]
    assert versions[1]["reason"] == "it is not loaded; add it to version_policy"


def test_metrics_and_words() -> None:
    bench = Bench(weights={"3": 95, "4": 5})
    bench.apply(status("3"), status("4", admits=False, state="UNAVAILABLE", reason="bad"))
    weight, share = bench.book.collect()
    assert {each.labels["version"]: each.value for each in weight.samples} == {"3": 0.95, "4": 0.05}
    assert {each.labels["version"]: each.value for each in share.samples} == {"3": 1.0, "4": 0.0}
    assert describe(Traffic({"3": 95, "4": 5}, shadow=Shadow("5", "3", 0.125))) == (
        "requests without a version: 95% to version 3, 5% to version 4; version 5 shadows 12.5% of version 3"
    )
    assert describe(Traffic()) == "the newest version gets all requests without one"
