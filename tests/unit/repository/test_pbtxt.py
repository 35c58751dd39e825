"""config.pbtxt: settings that become keys of model.toml, that are ignored, and that are refused."""

import random
from pathlib import Path
from typing import Any

import pytest

from gateway.environments.runtime import Format, Runtime, read_runtime
from gateway.repository.model_toml import ModelConfigError, ModelToml
from gateway.repository.pbtxt import read_config_pbtxt
from runtimes.contract import DATATYPES
from runtimes.control import ControlTensor, SequenceOptions, SequenceState
from tests.support import ROOT

NAMES = ("onnx", "torchscript", "savedmodel", "fake", "python")
INSTALLED = {name: read_runtime(ROOT / "runtimes" / name, name) for name in NAMES}
# Files as Triton's users have them.
PICTURES = """
name: "m"
platform: "onnxruntime_onnx"
max_batch_size : 0
input [
  {
    name: "data"  # the image
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, 224, 224 ]
    reshape { shape: [ 1, 3, 224, 224 ] }
  }
]
output [
  {
    name: "scores"
    data_type: TYPE_FP32
    dims: [ 1000 ]
    reshape { shape: [ 1, 1000, 1, 1 ] }
    label_filename: "labels.txt"
  }
]
"""


def read(folder: Path, text: str | bytes) -> tuple[ModelToml, list[str]]:
    file = folder / "m" / "config.pbtxt"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config_pbtxt(file, INSTALLED)


def test_an_image_model(tmp_path: Path) -> None:
    toml, left = read(tmp_path, PICTURES)
    assert left == []
    expected = {
        "runtime": "onnx",
        "device": "auto",
        "max_batch_size": 0,
        "inputs": [
            {
                "name": "data",
                "datatype": "FP32",
                "shape": (3, 224, 224),
                "reshape": (1, 3, 224, 224),
                "format": "NCHW",
            }
        ],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": (1000,), "reshape": (1, 1000, 1, 1)}],
        "labels": {"scores": "labels.txt"},
        "version_policy": {"latest": 1},
    }
    # `device` is a list after validation.
    assert toml == ModelToml.model_validate(expected)


@pytest.mark.parametrize("text", ["", "# nothing", 'name: "m"'])
def test_absent_settings_come_from_the_artifact(tmp_path: Path, text: str) -> None:
    toml, left = read(tmp_path, text)
    assert toml == ModelToml.model_validate({"device": "auto", "version_policy": {"latest": 1}})
    assert (toml.max_batch_size, toml.inputs, left) == (None, (), [])


MAPPED: list[tuple[str, dict[str, Any]]] = [
    ("max_batch_size: 0", {"max_batch_size": 0}),
    ("max_batch_size: 8 dynamic_batching {}", {"max_batch_size": 8}),
    ('platform: "pytorch_libtorch"', {"runtime": "torchscript"}),
    ('platform: "tensorflow_savedmodel"', {"runtime": "savedmodel"}),
    ('backend: "onnxruntime"', {"runtime": "onnx"}),
    ('backend: "pytorch"', {"runtime": "torchscript"}),
    ('backend: "tensorflow"', {"runtime": "savedmodel"}),
    ('backend: "fake"', {"runtime": "fake"}),
    ('platform: "onnxruntime_onnx" backend: "onnxruntime"', {"runtime": "onnx"}),
    ('default_model_filename: "net.onnx"', {"artifact": "net.onnx"}),
    ("version_policy { latest {} }", {"version_policy": {"latest": 1}}),
    ("version_policy { latest { num_versions: 3 } }", {"version_policy": {"latest": 3}}),
    ("version_policy { all {} }", {"version_policy": {"all": True}}),
    ("version_policy: { specific: { versions: [1, 4] } }", {"version_policy": {"specific": (1, 4)}}),
    ("dynamic_batching {}", {"queue_delay_ms": 0.0}),
    ("dynamic_batching { max_queue_delay_microseconds: 1500 }", {"queue_delay_ms": 1.5}),
    ("instance_group [ { kind: KIND_CPU } ]", {"device": "cpu"}),
    ("instance_group [ { count: 3 kind: KIND_CPU } ]", {"device": "cpu", "instances": 3}),
    ("instance_group [ { count: 2 } ]", {"device": "auto", "instances": 2}),
    ("instance_group [ { kind: KIND_GPU } ]", {"device": "cuda"}),
    ("instance_group [ { kind: KIND_MODEL } ]", {"device": "auto"}),
    ("instance_group [ { kind: KIND_GPU gpus: [ 1 ] } ]", {"device": ["cuda:1"]}),
    ("instance_group [ { gpus: [ 1 ] } ]", {"device": ["cuda:1"]}),
    ("instance_group [ { count: 2 kind: KIND_GPU gpus: [0, 2] } ]", {"device": ["cuda:0", "cuda:2"], "instances": 2}),
    (
        "instance_group [ { kind: KIND_GPU gpus: [0] }, { kind: KIND_GPU gpus: [1] } ]",
        {"device": ["cuda:0", "cuda:1"]},
    ),
    (
        "instance_group [ { kind: KIND_GPU gpus: [0] }, { count: 2 kind: KIND_GPU gpus: [0] } ]",
        {"device": ["cuda:0"], "instances": 3},
    ),
    ("instance_group [ { kind: KIND_CPU }, { kind: KIND_CPU count: 2 } ]", {"device": "cpu", "instances": 3}),
    ('parameters { key: "intra_op_thread_count" value { string_value: "4" } }', {"threads": 4}),
    ('parameters { key: "intra_op_thread_count" value { string_value: "0" } }', {}),
    ('parameters { key: "TF_NUM_INTRA_THREADS" value { string_value: "2" } }', {"threads": 2}),
    ('parameters { key: "INFERENCE_MODE" value { string_value: "true" } }', {}),
    ('input [ { name: "x" } ]', {"inputs": [{"name": "x"}]}),
    (
        'input [ { name: "x" data_type: TYPE_STRING dims: [ -1 ] } ]',
        {"inputs": [{"name": "x", "datatype": "BYTES", "shape": (-1,)}]},
    ),
    (
        'max_batch_size: 4 dynamic_batching {} input [ { name: "x" data_type: TYPE_UINT8 dims: [ -1, 3 ] } ]',
        {"max_batch_size": 4, "inputs": [{"name": "x", "datatype": "UINT8", "shape": (-1, -1, 3)}]},
    ),
    (
        "max_batch_size: 4 dynamic_batching {} "
        'input [ { name: "x" data_type: TYPE_BOOL dims: [ 1 ] reshape { shape: [ ] } } ]',
        {"max_batch_size": 4, "inputs": [{"name": "x", "datatype": "BOOL", "shape": (-1, 1), "reshape": (-1,)}]},
    ),
    (
        'input [ { name: "x" dims: [ 1 ] reshape { } } ]',
        {"inputs": [{"name": "x", "shape": (1,), "reshape": ()}]},
    ),
    (
        'backend: "python" parameters { key: "mode" value: { string_value: "plain" } }',
        {"runtime": "python", "parameters": {"mode": "plain"}},
    ),
]


@pytest.mark.parametrize(("text", "expected"), MAPPED, ids=[text for text, _ in MAPPED])
def test_settings_that_become_keys_of_model_toml(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    toml, left = read(tmp_path, text)
    assert toml == ModelToml.model_validate({"device": "auto", "version_policy": {"latest": 1}, **expected})
    assert left == []


@pytest.mark.parametrize(
    ("text", "vouches"),
    [
        ("max_batch_size: 8", False),
        ("max_batch_size: 8 dynamic_batching {}", True),
        ("max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 100 }", True),
    ],
)
def test_max_batch_size_alone_is_only_a_limit(tmp_path: Path, text: str, vouches: bool) -> None:
    toml, _ = read(tmp_path, text)
    assert (toml.max_batch_size, toml.declares_batching) == (8, vouches)


_UNKNOWN_TO_TRITON = {"BYTES", "FP8_E4M3FN", "FP8_E5M2", "INT4", "UINT4"}


@pytest.mark.parametrize("datatype", sorted({*DATATYPES, "STRING"} - _UNKNOWN_TO_TRITON))
def test_every_datatype_has_a_counterpart(tmp_path: Path, datatype: str) -> None:
    toml, _ = read(tmp_path, f'output [ {{ name: "y" data_type: TYPE_{datatype} dims: [ 1 ] }} ]')
    assert toml.outputs[0].datatype == ("BYTES" if datatype == "STRING" else datatype)


def test_the_default_priority_level_must_be_one_of_the_levels(tmp_path: Path) -> None:
    toml, left = read(tmp_path, "dynamic_batching { priority_levels: 3 default_priority_level: 2 }")
    assert (toml.priority_levels, toml.default_priority_level, left) == (3, 2, [])
    for default in (0, 4):
        with pytest.raises(ModelConfigError, match=f"'default_priority_level' is {default}, but it must be one of"):
            read(tmp_path, f"dynamic_batching {{ priority_levels: 3 default_priority_level: {default} }}")


LEFT = [
    ("dynamic_batching { preferred_batch_size: [4, 8] }", ["dynamic_batching.preferred_batch_size"]),
    (
        "dynamic_batching { preserve_ordering: true "
        "default_queue_policy { max_queue_size: 4 } priority_queue_policy { key: 1 value { max_queue_size: 2 } } }",
        [
            f"dynamic_batching.{name}"
            for name in (
                "preserve_ordering",
                "default_queue_policy",
                "priority_queue_policy",
            )
        ],
    ),
    ("optimization { graph { level: 1 } cuda { graphs: true } }", ["optimization"]),
    ('model_warmup [ { name: "w" batch_size: 1 } ]', ["model_warmup"]),
    ("model_transaction_policy { decoupled: false }", ["model_transaction_policy"]),
    ('metric_tags { key: "a" value: "b" }', ["metric_tags"]),
    ("model_metrics {}", ["model_metrics"]),
    ('model_operations { op_library_filename: "a.so" }', ["model_operations"]),
    ('model_repository_agents { agents [ { name: "checksum" } ] }', ["model_repository_agents"]),
    ('cc_model_filenames { key: "7.5" value: "a" }', ["cc_model_filenames"]),
    ('runtime: "model.py"', ["runtime"]),
    (
        'parameters { key: "DISABLE_OPTIMIZED_EXECUTION" value { string_value: "true" } }',
        ["parameters.DISABLE_OPTIMIZED_EXECUTION"],
    ),
    ('parameters { key: "INFERENCE_MODE" value { string_value: "false" } }', ["parameters.INFERENCE_MODE"]),
    (
        'parameters { key: "intra_op_thread_count" value { string_value: "many" } }',
        ["parameters.intra_op_thread_count"],
    ),
    ('input [ { name: "x" optional: true allow_ragged_batch: true } ]', ["input.allow_ragged_batch", "input.optional"]),
    ('input [ { name: "x" is_shape_tensor: true }, { name: "z" is_shape_tensor: true } ]', ["input.is_shape_tensor"]),
    (
        'output [ { name: "y" is_shape_tensor: true is_non_linear_format_io: true } ]',
        ["output.is_shape_tensor", "output.is_non_linear_format_io"],
    ),
    (
        'instance_group [ { name: "g" rate_limiter { priority: 1 } profile: [ "0" ] passive: true host_policy: "h" } ]',
        [f"instance_group.{name}" for name in ("profile", "rate_limiter", "passive", "host_policy")],
    ),
    ("instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]", ["instance_group (all but the first)"]),
    (
        "instance_group [ { kind: KIND_GPU gpus: 0 }, { count: 2 kind: KIND_GPU gpus: 1 } ]",
        ["instance_group (all but the first)"],
    ),
    (
        'optimization { execution_accelerators { gpu_execution_accelerator: [ { name: "tensorrt" } ] } }',
        ["optimization"],
    ),
    ("a_field_of_tomorrow: 3", ["a_field_of_tomorrow"]),
    ('tomorrow { name: "a" deep { deeper: "b: c { d: 1 }" } } # e: 1', ["tomorrow", "deep", "deeper"]),
    ("dims: [ 3 ]", ["dims"]),
]


@pytest.mark.parametrize(("text", "expected"), LEFT, ids=[text for text, _ in LEFT])
def test_ignored_settings_are_listed(tmp_path: Path, text: str, expected: list[str]) -> None:
    toml, left = read(tmp_path, f'name: "m" max_batch_size: 2 {text}')
    assert left == expected
    assert toml.max_batch_size == 2


WRONG = [
    ('name: "other"', "the name is 'other', but the folder's is 'm'; make them equal"),
    ('platform: "ensemble"', "is an ensemble without steps; add an ensemble_scheduling with a step"),
    ("ensemble_scheduling { }", "is an ensemble without steps"),
    ('backend: "onnxruntime" ensemble_scheduling { }', "has ensemble_scheduling, but its platform is not 'ensemble'"),
    (
        'platform: "ensemble" ensemble_scheduling { step [ { model_name: "a" model_version: -2 } ] }',
        "the model_version of a step must be positive, or -1 for the newest",
    ),
    (
        'platform: "ensemble" ensemble_scheduling { step [ { model_name: "a" model_namespace: "b" } ] }',
        "asks for model_namespace, which is not supported",
    ),
    ('platform: "ensemble" ensemble_scheduling { step [ { } ] }', "'ensemble_scheduling.step.0.model_name' is ''"),
    (
        'platform: "ensemble" instance_group [ { count: 2 } ] ensemble_scheduling { step [ { model_name: "a" } ] }',
        "a pipeline has no device, instances; set that in the models of its steps",
    ),
    ("sequence_batching { iterative_sequence: true }", "asks for sequence_batching.iterative_sequence"),
    ("sequence_batching { state [ { use_growable_memory: true } ] }", "asks for sequence_batching.state.use_growable"),
    (
        'sequence_batching { control_input [ { name: "s" control [ { kind: CONTROL_SEQUENCE_START } ] } ] }',
        "the control input 's' needs the two values of START",
    ),
    (
        'sequence_batching { control_input [ { name: "c" control [ { kind: CONTROL_SEQUENCE_CORRID } ] } ] }',
        "'c' in sequence_batching needs a data_type",
    ),
    (
        'sequence_batching { control_input [ { name: "c" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP16'
        " } ] } ] }",
        "its datatype must be one of UINT64, INT64, UINT32, INT32, BYTES",
    ),
    (
        'sequence_batching { state [ { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ 2 ] '
        "initial_state { data_type: TYPE_INT32 dims: [ 2 ] zero_data: true } } ] }",
        "the initial_state of 'i' has another data_type",
    ),
    ("model_transaction_policy { decoupled: true }", "asks for model_transaction_policy.decoupled"),
    ("batch_input [ { kind: BATCH_ELEMENT_COUNT } ]", "asks for batch_input"),
    ("batch_output [ { } ]", "asks for batch_output"),
    (
        'platform: "tensorrt_plan"',
        "asks for 'tensorrt_plan', which is not supported; supported are onnxruntime, onnxruntime_onnx, python, ",
    ),
    ('backend: "dali"', "asks for 'dali', which is not supported"),
    (
        'backend: "python" parameters { key: "EXECUTION_ENV_PATH" value: { string_value: "e.tar.gz" } }',
        "name its packages in a requirements.txt next to model.py",
    ),
    ('platform: "caffe2_netdef" backend: "tensorflow"', "asks for 'caffe2_netdef', which is not supported"),
    ('input [ { name: "x" data_type: TYPE_INT4 } ]', "no value named TYPE_INT4"),
    ('input [ { name: "x" data_type: 77 } ]', "'x' has the data_type 77, which Triton does not define"),
    ('input [ { name: "x" format: 9 } ]', "'x' has the format 9, which Triton does not define"),
    ("version_policy: { specific: { } }", "version_policy is specific, but names no versions"),
    ("max_batch_size: -1", "'max_batch_size' is -1, but input should be greater than or equal to 0"),
    ("max_batch_size: 100000", "'max_batch_size' is 100000, but"),
    ("input [ { } ]", "'input.0.name' is '', but"),
    ('output [ { name: "y" dims: [ 0 ] } ]', "'output.0.dims' is (0,), but every size must be positive, or -1 for any"),
    (
        'input [ { name: "x" dims: [ 4 ] reshape { shape: [ 5 ] } } ]',
        "'input.0.reshape' is (5,), but it needs a shape with the same number of elements and of -1",
    ),
    ('input [ { name: "x" dims: [ -1, 4 ] reshape { shape: [ 4 ] } } ]', "the same number of elements and of -1"),
    ('input [ { name: "x" reshape { shape: [ 4 ] } } ]', "it needs a shape with"),
    ("instance_group [ { count: -1 } ]", "'instance_group.count' is -1, but"),
    ("instance_group [ { count: 100000 } ]", "'instance_group.count' is 100000, but"),
    ("instance_group [ { gpus: [ -1 ] } ]", "'instance_group.gpus' is ['cuda:-1'], but"),
    ("dynamic_batching { max_queue_delay_microseconds: 60000001 }", "but at most 60000000 is allowed"),
    ('parameters { key: "intra_op_thread_count" value { string_value: "9999" } }', "'parameters (threads)' is 9999"),
    ("max_batch_size: many", "is not a model configuration: line 1, "),
    ("\ninput [ { data_type: TYPE_FLOAT } ]", 'line 2, Enum type "inference.DataType" has no value named TYPE_FLOAT'),
    ("sequence_batching {} dynamic_batching {}", "is not a model configuration: line 1, "),
    ('name: "m" name: "m"', "is not a model configuration: line 1, "),
    ("tomorrow [ { } ]", 'line 1, Message type "inference.ModelConfig" has no field named "tomorrow"'),
    ("input [ {", "is not a model configuration: "),
    ("unknown {", "is not a model configuration: "),
    ("unknown {" * 5000, "it is nested too deeply"),
    (b"\xff\xfe", "it is not UTF-8"),
    ("#" * (1 << 18) + "#", "is over the limit of 262144 bytes"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[str(text[:60]) for text, _ in WRONG])
def test_unsupported_settings_are_refused_in_one_sentence(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith("m/config.pbtxt")
    assert said in message
    assert "\n" not in message
    assert len(message) < 1000


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m" / "config.pbtxt").mkdir(parents=True)
    with pytest.raises(ModelConfigError, match=r"^m/config\.pbtxt cannot be read: "):
        read_config_pbtxt(tmp_path / "m" / "config.pbtxt", INSTALLED)


def test_random_files_are_read_or_refused(tmp_path: Path) -> None:
    chance = random.Random(3)
    pieces = [
        *PICTURES.split(),
        "{",
        "}",
        "[",
        "]",
        ":",
        '"',
        "\\",
        "'",
        "\0",
        "é",
        "-1",
        "9" * 30,
        "1e9",
        "<",
        ">",
        "#",
    ]
    pieces += [text for text, _ in MAPPED] + [text for text, _ in LEFT]
    read_ones = 0
    for _ in range(3000):
        words = chance.choices(pieces, k=chance.randint(1, 12))
        raw = bytearray(" ".join(words) if chance.random() < 0.5 else PICTURES, "utf-8")
        for _ in range(chance.randint(0, 3)):
            raw[chance.randrange(len(raw))] = chance.choice(b'{}[]:"0-a\x00\xff\n')
        try:
            toml, left = read(tmp_path, bytes(raw))
        except ModelConfigError:
            continue
        read_ones += 1
        assert isinstance(toml, ModelToml)
        assert all(isinstance(name, str) for name in left)
    assert read_ones > 100


def test_a_third_partys_runtime_can_have_a_triton_backend(tmp_path: Path) -> None:
    form = Format("acme_plan", ("*.acme",), triton_backend="acme_triton")
    acme = Runtime("acme", "Acme", tmp_path, ">=3.8", formats=(form,))
    for asked in ('platform: "acme_plan"', 'backend: "acme_triton"', 'backend: "acme"'):
        file = tmp_path / "m" / "config.pbtxt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(asked)
        assert read_config_pbtxt(file, {**INSTALLED, "acme": acme})[0].runtime == "acme"


def test_sequence_batching_becomes_the_table_sequence(tmp_path: Path) -> None:
    toml, ignored = read(
        tmp_path,
        """
        max_batch_size: 4
        sequence_batching {
          max_sequence_idle_microseconds: 5000000
          oldest { max_candidate_sequences: 8 max_queue_delay_microseconds: 2000 preferred_batch_size: [ 4 ] }
          control_input [
            { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
            { name: "END" control [ { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } ] },
            { name: "ID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } ] }
          ]
          state [
            {
              input_name: "in" output_name: "out" data_type: TYPE_INT32 dims: [ -1, 2 ]
              initial_state { name: "first" data_type: TYPE_INT32 dims: [ 3, 2 ] data_file: "first.bin" }
            },
            { input_name: "in2" output_name: "out2" data_type: TYPE_FP32 dims: [ -1 ] }
          ]
        }
        """,
    )
    assert ignored == ["sequence_batching.oldest.preferred_batch_size"]
    assert toml.declares_batching
    assert toml.sequence is not None
    assert toml.sequence.options(Path("/m")) == SequenceOptions(
        "oldest",
        5.0,
        8,
        0.002,
        (
            ControlTensor("START", "START", "FP32"),
            ControlTensor("END", "END", "BOOL"),
            ControlTensor("CORRID", "ID", "BYTES"),
        ),
        (
            SequenceState("in", "out", "INT32", (-1, 2), (3, 2), 0, "/m/initial_state/first.bin"),
            SequenceState("in2", "out2", "FP32", (-1,), (1,)),
        ),
    )


@pytest.mark.parametrize(("batch", "slots"), [(0, 1), (4, 4)])
def test_the_default_strategy_is_direct_with_a_slot_for_each_row(tmp_path: Path, batch: int, slots: int) -> None:
    toml, _ = read(tmp_path, f"max_batch_size: {batch} sequence_batching {{ }}")
    assert toml.sequence is not None
    options = toml.sequence.options(tmp_path)
    assert (options.strategy, options.idle_timeout, options.max_sequences) == ("direct", 1.0, slots)


def test_python_models_may_be_decoupled_and_have_optional_inputs(tmp_path: Path) -> None:
    toml, left = read(
        tmp_path,
        'backend: "python" input [ { name: "x" }, { name: "z" optional: true } ] '
        "model_transaction_policy { decoupled: true }",
    )
    assert (toml.decoupled, [each.optional for each in toml.inputs], left) == (True, [False, True], [])


@pytest.mark.parametrize("decoupled", ["true", "false"])
def test_an_ensemble_may_say_that_it_is_decoupled_which_follows_from_its_steps(tmp_path: Path, decoupled: str) -> None:
    step = 'step [ { model_name: "a" input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } ]'
    toml, left = read(
        tmp_path,
        f'platform: "ensemble" ensemble_scheduling {{ {step} }} model_transaction_policy {{ decoupled: {decoupled} }}',
    )
    assert (len(toml.steps), toml.decoupled, left) == (1, False, [])


def test_what_is_ignored_in_an_ensemble_has_a_note(tmp_path: Path) -> None:
    step = 'step [ { model_name: "a" input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } ]'
    _, left = read(
        tmp_path,
        'platform: "ensemble" input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] optional: true } ] '
        f"ensemble_scheduling {{ max_inflight_requests: 2 {step} }} response_cache {{ enable: true }}",
    )
    assert sorted(left) == [
        "ensemble_scheduling.max_inflight_requests (at most 16 answers are in progress between decoupled steps)",
        "input.optional (an input is optional if every step that uses it can do without it)",
        "response_cache.enable (the models of its steps may have one)",
    ]


def test_a_response_cache_is_the_one_that_models_share(tmp_path: Path) -> None:
    for enable, expected in (("true", True), ("false", False)):
        toml, left = read(tmp_path, f'name: "m" max_batch_size: 2 response_cache {{ enable: {enable} }}')
        assert (toml.response_cache, left) == (expected, [])


@pytest.mark.parametrize(
    ("text", "extras", "left"),
    [
        ("", ("openvino",), []),
        ("instance_group [ { kind: KIND_CPU } ]", ("openvino",), []),
        ("instance_group [ { kind: KIND_GPU } ]", (), ["optimization"]),
    ],
)
def test_openvino_on_the_cpu_is_an_execution_provider(
    tmp_path: Path, text: str, extras: tuple[str, ...], left: list[str]
) -> None:
    asked = 'optimization { execution_accelerators { cpu_execution_accelerator: [ { name: "openvino" } ] } }'
    toml, ignored = read(tmp_path, f'name: "m" backend: "onnxruntime" {asked} {text}')
    assert (toml.extras, ignored) == (extras, left)
    assert toml.parameters == ({"execution_providers": ["openvino"]} if extras else {})
    assert read(tmp_path, f'name: "m" backend: "pytorch" {asked}')[1] == ["optimization"]


def test_pytorch_models_may_leave_inference_mode_and_have_optional_inputs(tmp_path: Path) -> None:
    toml, left = read(
        tmp_path,
        'backend: "pytorch" input [ { name: "x" }, { name: "z" optional: true } ] '
        'parameters { key: "INFERENCE_MODE" value { string_value: "false" } } '
        'parameters { key: "NUM_THREADS" value { string_value: "2" } }',
    )
    assert ([each.optional for each in toml.inputs], toml.parameters, toml.threads, left) == (
        [False, True],
        {"inference_mode": False},
        2,
        [],
    )
