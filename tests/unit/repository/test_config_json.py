"""Configurations in JSON, as requests to load a model bring them."""

import json
from typing import Any

import pytest

from gateway.environments.runtime import read_runtime
from gateway.repository.config_json import read_config_json
from gateway.repository.model_toml import ModelConfigError
from tests.support import ROOT

INSTALLED = {name: read_runtime(ROOT / "runtimes" / name, name) for name in ("onnx", "fake", "python")}


def test_the_settings_are_those_of_config_pbtxt() -> None:
    document = {
        "name": "m",
        "backend": "onnxruntime",
        "maxBatchSize": 8,
        "dynamic_batching": {"max_queue_delay_microseconds": "1500"},
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 2}],
        "optimization": {"graph": {"level": 1}},
        "of_a_newer_triton": {"a": [1, {"b": 2}]},
    }
    toml, ignored = read_config_json(json.dumps(document), "m", INSTALLED)
    assert (toml.runtime, toml.max_batch_size, toml.queue_delay_ms, toml.instances) == ("onnx", 8, 1.5, 2)
    assert [(each.name, each.datatype, each.shape) for each in toml.inputs] == [("x", "FP32", (-1, 4))]
    assert ignored == ["optimization", "of_a_newer_triton"]


def test_an_empty_one_leaves_everything_to_the_artifact() -> None:
    toml, ignored = read_config_json("{}", "m", INSTALLED)
    assert (toml.runtime, toml.inputs, toml.max_batch_size, ignored) == ("", (), None, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not one of Triton's, in JSON"),
        ("[]", "the configuration in the request must be a JSON object"),
        ('{"max_batch_size": "many"}', "is not one of Triton's, in JSON"),
        ('{"input": ' + "[" * 2000 + "]" * 2000 + "}", "is not one of Triton's, in JSON"),
        ('{"name": "other"}', "the configuration in the request is for 'other', but the model is 'm'"),
        ('{"backend": "tensorrt_llm"}', "the configuration in the request asks for 'tensorrt_llm'"),
        ('{"batch_input": [{"kind": "BATCH_ELEMENT_COUNT"}]}', "asks for batch_input, which is not supported"),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, problem: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        read_config_json(text, "m", INSTALLED)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_numbers_of_wrong_types_do_not_pass_silently() -> None:
    wrong: list[Any] = [{"max_batch_size": 1.5}, {"max_batch_size": 1 << 40}, {"input": [{"dims": ["x"]}]}]
    for document in wrong:
        with pytest.raises(ModelConfigError):
            read_config_json(json.dumps(document), "m", INSTALLED)
