"""What becomes of answers that lack outputs: a pipeline has skipped their steps, or a request its labels."""

import numpy as np
import pytest

from gateway.codecs.json_text import loads
from gateway.domain.image_processing import Postprocess
from gateway.domain.pipeline import Step
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.errors import InvalidRequest
from gateway.front.base.image_request import ImageRequest
from gateway.front.base.limits import Limits
from gateway.front.base.named_outputs import are_named
from gateway.front.dialects.mlflow import invocations
from gateway.front.dialects.tfserving import predict
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import from_array

STEPS = (Step("a", "", {"x": "x"}, {"y": "y"}),)
OUTPUT = from_array("y", np.array([1, 2]))


@pytest.mark.parametrize(
    ("steps", "outputs", "requested", "named"),
    [
        (steps, *case)
        for steps in (STEPS, ())
        for case in (("yz", (), True), ("yz", ("y",), False), ("yz", ("y", "z"), True), ("y", (), False))
    ],
)
def test_which_answers_are_named(
    steps: tuple[Step, ...], outputs: str, requested: tuple[str, ...], named: bool
) -> None:
    signature = Signature((), tuple(TensorSpec(name) for name in outputs))
    status = ModelStatus("m", "1", "READY", signatures={"default": signature}, steps=steps)
    assert are_named(status, InferRequest("m", [], outputs=requested)) == named


def test_rows_of_an_only_output() -> None:
    limits = Limits()
    for has_names, rows in ((False, [1, 2]), (True, [{"y": 1}, {"y": 2}])):
        response = InferResponse("m", "1", [OUTPUT])
        assert loads(predict.write_response(response, 2, limits, has_names)) == {"predictions": rows}
        assert loads(invocations._write_instances(limits, 2, has_names, response)) == {"predictions": rows}
    nothing = InferResponse("m", "1", [])
    assert loads(invocations._write_instances(limits, 2, True, nothing)) == {"predictions": [{}, {}]}


@pytest.mark.parametrize("output", ["", "scores"])
def test_scores_that_a_pipeline_has_not_made(output: str) -> None:
    status = ModelStatus("m", "1", "READY", steps=STEPS, postprocess=Postprocess(output))
    request = ImageRequest(InferRequest("m", []), status, 1)
    with pytest.raises(InvalidRequest, match="there are no scores, because the step that makes them was skipped"):
        request.predictions(InferResponse("m", "1", []))
