"""model.toml: errors name the file, the key and what is allowed."""

import json
from pathlib import Path

import pytest

from gateway.repository.model_toml import ModelConfigError, VersionPolicy, read_model_toml
from runtimes.control import ControlTensor, Load, SequenceOptions, SequenceState

_STATE = 'input = "h", output = "h2", datatype = "FP32"'
WRONG = [
    ("max_batch_sise = 4", "there is no key 'max_batch_sise'; the keys are artifact, audit_share"),
    ("max_batch_size = -1", "'max_batch_size' is -1, but input should be greater than or equal to 0"),
    ('instances = "many"', "'instances' is 'many', but input should be a valid integer"),
    ('device = "gpu"', '\'device\' is \'gpu\', but it must be "cpu", "cuda", "cuda:N", "auto" or a list of cards'),
    ('device = ["cuda:0", "cpu"]', "a list must name cards, each once"),
    ('device = ["cuda:1", "cuda:1"]', "a list must name cards, each once"),
    ("device = []", "'device' is [], but a list must name cards"),
    ('[[inputs]]\nname = "x"\ndatatype = "float"', "'inputs.0.datatype' is 'float', but it must be one of BOOL"),
    ('[[inputs]]\nname = "x"\ndatatype = "FP32"\nshape = [0]', "every size must be positive, or -1 for any"),
    ('[[inputs]]\nname = "x"\nreshape = [4]', "it needs a shape with the same number of elements and of -1"),
    ('[[inputs]]\nname = "x"\nshape = [4]\nreshape = [2, 3]', "'inputs.0.reshape' is [2, 3], but it needs a shape"),
    ('[[outputs]]\nname = "y"\nshape = [-1, 4]\nreshape = [4]', "same number of elements and of -1"),
    ('[[inputs]]\nname = "x"\nformat = "HWC"', "'inputs.0.format' is 'HWC', but"),
    ("[version_policy]\nlatest = 0", "'version_policy.latest' is 0, but"),
    ('memory_limit = "many"', "'memory_limit' is 'many', but it must be a number of bytes, or text such as \"512MiB\""),
    ("memory_limit = -1", "'memory_limit' is -1, but"),
    ("memory_limit = true", "'memory_limit' is True, but it must be a number of bytes"),
    ('[sandbox]\nread = ["data"]', "'sandbox.read' is ['data'], but every path must be absolute"),
    ("[sandbox]\nnetworks = true", "there is no key 'sandbox.networks'; the keys are enabled, network, read"),
    ("max_batch_size = = 4", "is not TOML"),
    ('[sequence]\nstrategy = "newest"', "'sequence.strategy' is 'newest', but"),
    ("[sequence]\nidle = 1", "there is no key 'sequence.idle'; the keys are controls, delay_ms, idle_timeout_s"),
    (f'[sequence]\nstates = [{{{_STATE}, shape = [2], initial = "../x"}}]', "the name of a file in the model's folder"),
    (f"[sequence]\nstates = [{{{_STATE}, shape = [-1]}}]", "initial_shape must be complete, and agree with shape"),
    (f"[sequence]\nstates = [{{{_STATE}, shape = [2], initial_shape = [3]}}]", "must be complete, and agree"),
    (f"[sequence]\nstates = [{{{_STATE}, shape = [2], dim = 2}}]", "dim must be at most the number of sizes"),
    (f"[sequence]\nstates = [{{{_STATE}, shape = [2]}}, {{{_STATE}, shape = [2]}}]", "the input h is there twice"),
    ('[[sequence.controls]]\nkind = "START"\ninput = "s"\ndatatype = "FP16"', "must be one of BOOL, INT32, FP32"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[text.splitlines()[-1] for text, _ in WRONG])
def test_invalid_values_are_explained(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine" / "model.toml"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(ModelConfigError) as caught:
        read_model_toml(file)
    assert str(caught.value).startswith("mine/model.toml")
    assert said in str(caught.value)


def test_all_keys_are_optional(tmp_path: Path) -> None:
    toml = read_model_toml(tmp_path / "model.toml")
    assert (toml.max_batch_size, toml.instances, toml.device, toml.stateful) == (None, 1, ("cpu",), False)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ('"2GiB"', 2 << 30),
        ('"1.5 GiB"', 3 << 29),
        ('"2GB"', 2 * 10**9),
        ('"512MiB"', 1 << 29),
        ("4096", 4096),
        ("0", 0),
    ],
)
def test_memory_limits_are_bytes(tmp_path: Path, text: str, size: int) -> None:
    (tmp_path / "model.toml").write_text(f"memory_limit = {text}")
    assert read_model_toml(tmp_path / "model.toml").memory_limit == size


def test_version_policies() -> None:
    versions = [3, 1, 2]
    assert VersionPolicy().choose(versions) == [3]
    assert VersionPolicy(latest=2).choose(versions) == [2, 3]
    assert VersionPolicy(all=True).choose(versions) == [1, 2, 3]
    assert VersionPolicy(specific=(1, 9)).choose(versions) == [1]


def test_the_runtime_gets_the_models_own_shape(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(
        '[[inputs]]\nname = "x"\nshape = [-1, 4]\nreshape = [-1, 2, 2]\n[[inputs]]\nname = "z"\ndatatype = "FP32"\n'
    )
    toml = read_model_toml(tmp_path / "model.toml")
    assert [tuple(tensor.spec()) for tensor in toml.inputs] == [("x", "", (-1, 2, 2)), ("z", "FP32", None)]


def test_sequence_options_survive_the_way_to_the_worker(tmp_path: Path) -> None:
    file = tmp_path / "model.toml"
    file.write_text(f"""
        [sequence]
        strategy = "oldest"
        idle_timeout_s = 2.5
        max_sequences = 8
        delay_ms = 1
        controls = [{{kind = "START", input = "s", values = [1, -1]}}, {{kind = "CORRID", input = "id"}}]
        states = [{{{_STATE}, shape = [2, -1], initial_shape = [2, 0], dim = 1, initial = "first"}}]
    """)
    toml = read_model_toml(file)
    assert toml.sequence is not None
    options = toml.sequence.options(tmp_path)
    assert options == SequenceOptions(
        "oldest",
        2.5,
        8,
        0.001,
        (ControlTensor("START", "s", "INT32", 1, -1), ControlTensor("CORRID", "id", "UINT64")),
        (SequenceState("h", "h2", "FP32", (2, -1), (2, 0), 1, str(tmp_path / "initial_state" / "first")),),
    )
    load = Load("runtime", "artifact", sequence=options)
    assert Load.from_json(json.loads(json.dumps(load.to_json()))) == load
