"""model.toml: errors name the file, the key and what is allowed."""

from pathlib import Path

import pytest

from gateway.repository.model_toml import ModelConfigError, VersionPolicy, read_model_toml

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
