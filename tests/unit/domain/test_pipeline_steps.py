"""The steps of a pipeline, as the supervisor and the fronts exchange them."""

import json

from gateway.domain.pipeline import Condition, Step
from gateway.domain.table import Table, TableEntry, table_from_json, table_to_json
from gateway.domain.types import ModelStatus


def test_steps_reach_the_fronts_as_they_are() -> None:
    steps = (
        Step("detector", "", {"image": "pixels"}, {"boxes": "boxes", "found": "found"}),
        Step("classifier", "3", {"x": "boxes"}, {"label": "label"}, Condition("found")),
        Step("other", "canary", {"x": "boxes"}, {"label": "label"}, Condition("found", False)),
    )
    table = Table((TableEntry(ModelStatus("pipeline", "1", "READY", steps=steps)),))

    read = table_from_json(json.loads(json.dumps(table_to_json(table))))

    assert read.entries[0].status.steps == steps
    assert read.entries[0].status.steps[2].when == Condition("found", value=False)


def test_a_step_needs_its_inputs_and_its_condition() -> None:
    step = Step("classifier", "", {"x": "crops", "y": "sizes"}, {"label": "label"}, Condition.parse("not empty"))
    assert step.needs == {"crops", "sizes", "empty"}
    assert str(step.when) == "not empty"
    assert str(step) == "classifier"
