"""The entries of the table are in order, and those that have not changed stay the same objects, which are not sent."""

from collections.abc import Callable

from gateway.domain.pipeline import Step
from gateway.domain.table import TableEntry
from gateway.domain.types import ModelStatus
from gateway.lifecycle.entries import TableEntries
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.pipeline_version import PipelineVersion
from gateway.lifecycle.policy import VersionKey
from gateway.lifecycle.version import Version
from gateway.repository.model_config import ModelConfig


def versions(*names: str) -> dict[VersionKey, Version]:
    keys = [VersionKey(name, "1", "print") for name in names]
    return {key: ModelVersion(key, ModelConfig(key.model, "1", "print"), lambda: None) for key in keys}


def in_state(**states: str) -> Callable[[Version], TableEntry]:
    def entry(version: Version) -> TableEntry:
        return TableEntry(ModelStatus(version.key.model, "1", states.get(version.key.model, "READY")))

    return entry


def test_they_are_in_order_when_models_come_and_go() -> None:
    entries = TableEntries()
    found = versions("b", "d")
    assert [each.status.name for each in entries.update(found, found, in_state())] == ["b", "d"]
    found |= versions("c", "a")
    assert [each.status.name for each in entries.update(found, found, in_state(), {"c", "a"})] == ["a", "b", "c", "d"]
    del found[VersionKey("b", "1", "print")]
    assert [each.status.name for each in entries.update(found, found, in_state(), {"b"})] == ["a", "c", "d"]
    assert entries.update({}, {}, in_state()) == ()


def test_equal_entries_stay_the_same_objects() -> None:
    entries, found = TableEntries(), versions("a", "b", "c")
    before = entries.update(found, found, in_state())
    after = entries.update(found, found, in_state(b="LOADING"))
    assert [old is new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_a_step_whose_model_has_no_entry_yet_is_being_loaded() -> None:
    """While several models are being added, a broken one is reported before the others are."""
    entries, found = TableEntries(), versions("a", "broken")
    key = VersionKey("p", "1", "print")
    steps = (Step("a", "", {"x": "x"}, {"y": "y"}),)
    pipeline = PipelineVersion(key, ModelConfig("p", "1", "print", steps=steps), lambda: None)
    every = {**found, key: pipeline}

    def entry(version: Version) -> TableEntry:
        return version.entry() if version is pipeline else in_state(a="LOADING", broken="UNAVAILABLE")(version)

    entries.update(every, every, entry, {"broken"})
    assert (pipeline.state, pipeline.reason) == ("LOADING", "its step 'a' is being loaded")
    entries.update(every, every, entry, {"a", "p"})
    assert (pipeline.state, pipeline.reason) == ("LOADING", "its step 'a' is LOADING: ")
    del every[VersionKey("a", "1", "print")]
    entries.update(every, every, entry, {"a"})
    assert pipeline.state == "UNAVAILABLE"
