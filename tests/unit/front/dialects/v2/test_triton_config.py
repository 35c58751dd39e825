"""The model_configuration extension: one record, as JSON over REST and as a message over gRPC."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from gateway.domain.control import GetConfiguration
from gateway.domain.types import ModelStatus
from gateway.engine.fake import CONFIGURATION, FakeEngine
from gateway.errors import NotFound, Unavailable
from gateway.front.dialects.v2.model_config import as_json, read_configuration
from gateway.generated import model_config_pb2 as config_pb
from gateway.generated import open_inference_pb2 as pb
from gateway.repository.pbtxt import read_config_pbtxt
from runtimes.contract import Signature, TensorSpec
from tests.support.front_server import Serving, answer


class ConfiguredEngine(FakeEngine):
    """Has one model with this shape. The supervisor's answer is CONFIGURATION with `overrides`."""

    def __init__(self, shape: tuple[int, ...] | None, overrides: dict[str, Any], **status: Any) -> None:
        signature = Signature((TensorSpec("x", "BYTES", shape),), (TensorSpec("y", "FP32", shape),))
        status = {"platform": "onnxruntime_onnx", "signatures": {"default": signature}, **status}
        super().__init__([ModelStatus("m", "3", "READY", **status)], answer)
        self._overrides = overrides
        self.handlers.add(GetConfiguration, self._configuration)

    def _configuration(self, asked: GetConfiguration) -> dict[str, Any]:
        assert asked == GetConfiguration("m", "3")
        return {**CONFIGURATION, **self._overrides}


async def configuration(shape: tuple[int, ...] | None, overrides: dict[str, Any] | None = None, **status: Any) -> Any:
    return as_json(await read_configuration(ConfiguredEngine(shape, overrides or {}, **status), "m"))


def run(made: Any) -> Any:
    """Run a coroutine that does not wait."""
    try:
        made.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waits")


def test_inputs_without_rows_are_optional_and_outputs_in_json_are_listed() -> None:
    specs = tuple(TensorSpec(name, "FP32", shape) for name, shape in (("w", (2,)), ("one", ()), ("any", None)))
    signature = Signature((TensorSpec("x", "FP32", (-1, 2)),), (), {"maps": "a map"}, unbatched=specs, json=("maps",))
    config = run(configuration(None, signatures={"default": signature}, max_batch_size=8))
    inputs = [(each["name"], each["dims"], each["optional"]) for each in config["input"]]
    assert inputs == [("x", [2], False), ("w", [2], True), ("one", [], True), ("any", [-1], True)]
    assert config["parameters"]["json_outputs"] == {"string_value": '["maps"]'}


def test_dims_are_without_the_batch_dimension() -> None:
    config = run(configuration((-1, 3, -1), max_batch_size=8))
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (8, [3, -1])
    config = run(configuration((-1, 3, -1)))
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [-1, 3, -1])
    # Triton cannot describe a batch dimension that is not the first.
    config = run(configuration((2, -1), max_batch_size=8, batch_dim=1))
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [2, -1])


def test_tensors_are_described_as_triton_does() -> None:
    reshape = {"inputs": {"x": [-1, 2, 2]}, "outputs": {"y": [-1]}}
    config = run(
        configuration(
            (-1, 4),
            {"labels": {"y": "names.txt"}, "formats": {"x": "NHWC"}, "reshape": reshape},
            max_batch_size=2,
        )
    )
    assert config["input"] == [
        {
            "name": "x",
            "data_type": "TYPE_STRING",
            "format": "FORMAT_NHWC",
            "dims": [4],
            "reshape": {"shape": [2, 2]},
            "is_shape_tensor": False,
            "allow_ragged_batch": False,
            "optional": False,
            "is_non_linear_format_io": False,
        }
    ]
    assert config["output"] == [
        {
            "name": "y",
            "data_type": "TYPE_FP32",
            "dims": [4],
            "reshape": {"shape": []},
            "label_filename": "names.txt",
            "is_shape_tensor": False,
            "is_non_linear_format_io": False,
        }
    ]


@pytest.mark.parametrize(
    ("overrides", "key", "expected"),
    [
        ({}, "version_policy", {"latest": {"num_versions": 1}}),
        (
            {"version_policy": {"latest": 3, "all": False, "specific": []}},
            "version_policy",
            {"latest": {"num_versions": 3}},
        ),
        ({"version_policy": {"latest": None, "all": True, "specific": []}}, "version_policy", {"all": {}}),
        (
            {"version_policy": {"latest": None, "all": False, "specific": [1, 4]}},
            "version_policy",
            {"specific": {"versions": [1, 4]}},
        ),
        ({"artifact": "net.onnx"}, "default_model_filename", "net.onnx"),
        ({}, "platform", "onnxruntime_onnx"),
        ({"backend": "onnxruntime"}, "backend", "onnxruntime"),
        ({}, "model_transaction_policy", {"decoupled": False}),
        ({}, "response_cache", {"enable": False}),
        ({}, "parameters", {"batching": {"string_value": "batching up to 32 rows"}}),
    ],
)
def test_the_configuration_describes_what_is_served(overrides: dict[str, Any], key: str, expected: Any) -> None:
    assert run(configuration((-1, 4), overrides, max_batch_size=4))[key] == expected


def test_a_platform_unknown_to_triton() -> None:
    assert run(configuration((-1,), platform="mxnet"))["backend"] == "fake"


@pytest.mark.parametrize(
    ("devices", "kind", "gpus"),
    [(["cpu"], "KIND_CPU", []), ([], "KIND_CPU", []), (["cuda:0", "cuda:2"], "KIND_GPU", [0, 2])],
)
def test_instances(devices: list[str], kind: str, gpus: list[int]) -> None:
    (group,) = run(configuration((-1, 4), {"devices": devices, "instances": 2}))["instance_group"]
    assert (group["name"], group["count"], group["kind"], group["gpus"]) == ("m_0", 2, kind, gpus)


def test_batching_is_dynamic_where_it_is_on() -> None:
    config = run(configuration((-1, 4), {"queue_delay_ms": 1.5}, max_batch_size=4))
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 1500
    config = run(configuration((-1, 4), {"queue_delay_ms": 1.5}))
    assert not {"dynamic_batching", "sequence_batching", "ensemble_scheduling"} & set(config)


@pytest.mark.parametrize(
    "text",
    [
        "direct { max_queue_delay_microseconds: 3000 } max_sequence_idle_microseconds: 5000000 "
        'state [ { input_name: "h" output_name: "h2" data_type: TYPE_FP32 dims: [ -1, 2 ] '
        "initial_state { data_type: TYPE_FP32 dims: [ 1, 2 ] "
        'data_file: "first" } } ]',
        "oldest { max_candidate_sequences: 4 } max_sequence_idle_microseconds: 1000000 "
        'control_input [ { name: "s" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] }, '
        '{ name: "r" control [ { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } ] }, '
        '{ name: "e" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 5, -1 ] } ] }, '
        '{ name: "i" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } ] } ]',
    ],
)
def test_sequence_batching_is_what_the_file_says(tmp_path: Path, text: str) -> None:
    file = tmp_path / "m" / "config.pbtxt"
    file.parent.mkdir()
    file.write_text(f"max_batch_size: 4 sequence_batching {{ {text} }}")
    toml, ignored = read_config_pbtxt(file, {})
    assert not ignored
    assert toml.sequence is not None
    engine = ConfiguredEngine((-1, 4), {"sequence": toml.sequence.model_dump(mode="json")}, max_batch_size=4)
    config = run(read_configuration(engine, "m"))
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert config.sequence_batching == text_format.Parse(text, config_pb.ModelSequenceBatching())


def test_an_unknown_shape() -> None:
    assert run(configuration(None))["input"][0]["dims"] == [-1]


def test_a_model_that_never_loaded_has_none() -> None:
    engine = FakeEngine([ModelStatus("m", "3", "UNAVAILABLE", "it is broken")], answer)
    with pytest.raises(Unavailable, match="model 'm' is UNAVAILABLE: it is broken"):
        run(read_configuration(engine, "m"))
    with pytest.raises(NotFound):
        run(read_configuration(engine, "other"))


def test_every_kind_of_field_is_written() -> None:
    """protobuf's own JSON writes 64-bit integers as strings; Triton writes numbers, and so do we."""
    message = config_pb.ModelConfig(cc_model_filenames={"7.5": "a.onnx"})
    message.parameters["k"].string_value = "v"
    message.dynamic_batching.priority_queue_policy[3].default_timeout_microseconds = 1 << 60
    message.version_policy.specific.versions.append(1 << 40)
    message.model_warmup.add().inputs["x"].zero_data = True
    config = json.loads(json.dumps(as_json(message)))
    assert config["cc_model_filenames"] == {"7.5": "a.onnx"}
    assert config["parameters"] == {"k": {"string_value": "v"}}
    assert config["dynamic_batching"]["priority_queue_policy"]["3"]["default_timeout_microseconds"] == 1 << 60
    assert config["version_policy"]["specific"]["versions"] == [1 << 40]
    assert config["model_warmup"][0]["inputs"]["x"] == {"data_type": "TYPE_INVALID", "dims": [], "zero_data": True}


@pytest.mark.parametrize("path", ["/v2/models/doubler/config", "/v2/models/doubler/versions/1/config"])
def test_rest(serving: Serving, path: str) -> None:
    config = serving.http.get(path).json()
    assert (config["name"], config["max_batch_size"], config["input"][0]["dims"]) == ("doubler", 8, [3])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nosuch/config", 404),
        ("/v2/models/doubler/versions/9/config", 404),
        ("/v2/models/broken/config", 503),
    ],
)
def test_rest_refuses(serving: Serving, path: str, status: int) -> None:
    reply = serving.http.get(path)
    assert (reply.status_code, list(reply.json())) == (status, ["error"])


def test_grpc(grpc_serving: Serving) -> None:
    raw = grpc_serving.call("ModelConfig", pb.ModelConfigRequest(name="doubler", version="1").SerializeToString())
    config = pb.ModelConfigResponse.FromString(raw).config
    assert as_json(config) == grpc_serving.http.get("/v2/models/doubler/config").json()
    with pytest.raises(grpc.RpcError) as caught:
        grpc_serving.call("ModelConfig", pb.ModelConfigRequest(name="broken").SerializeToString())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
