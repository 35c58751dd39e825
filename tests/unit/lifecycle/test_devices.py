"""Devices of instances: model.toml, the gateway's accelerator, and what each worker sees."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.environments.environment import Environment
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.interpreters import Interpreter
from gateway.environments.runtime import Runtime, discover
from gateway.lifecycle.devices import device_variables, placement
from gateway.lifecycle.launch import plan_launch
from gateway.repository.formats import Artifact
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelToml

TWO = ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("device", "built", "cards", "devices"),
    [
        ("cpu", "cpu", 0, ("cpu",)),
        ("cpu", "cuda", 4, ("cpu",)),
        ("cuda", "cuda", 1, ("cuda:0",)),
        ("cuda:3", "cuda", 4, ("cuda:3",)),
        (TWO, "cuda", 2, ("cuda:0", "cuda:1")),
        ("auto", "cpu", 1, ("cpu",)),
        ("auto", "cuda", 0, ("cpu",)),
        ("auto", "cuda", 2, ("cuda:0",)),
    ],
)
def test_placement(device: str | list[str], built: str, cards: int, devices: tuple[str, ...]) -> None:
    toml = ModelToml.model_validate({"device": device})
    assert placement(toml.device, built, built, cards) == devices


def test_a_framework_without_cuda_stays_on_the_cpu() -> None:
    assert placement(("auto",), "cuda", "cpu", 2) == ("cpu",)
    with pytest.raises(EnvironmentUnavailable, match="its runtime's packages are the CPU's; leave device out"):
        placement(("cuda",), "cuda", "cpu", 2)


@pytest.mark.parametrize(("device", "said"), [("cuda:1", "device = 'cuda:1', but"), (TWO, "device = ['cuda:0', ")])
def test_a_gpu_needs_the_cuda_accelerator(device: str | list[str], said: str) -> None:
    toml = ModelToml.model_validate({"device": device})
    with pytest.raises(EnvironmentUnavailable, match="start it with --accelerator cuda") as caught:
        placement(toml.device, "cpu", "cpu", 2)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("device_name", "environment", "card", "order"),
    [
        ("cpu", {"CUDA_VISIBLE_DEVICES": "0"}, "", None),
        ("cuda:1", {}, "1", "PCI_BUS_ID"),
        ("cuda:1", {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, "1", "FASTEST_FIRST"),
        ("cuda:1", {"CUDA_VISIBLE_DEVICES": "4, GPU-ab,-1,2"}, "GPU-ab", "PCI_BUS_ID"),
    ],
)
def test_a_worker_sees_only_its_own_gpu(
    device_name: str, environment: dict[str, str], card: str, order: str | None
) -> None:
    sees = device_variables(device_name, environment)
    assert (sees["CUDA_VISIBLE_DEVICES"], sees.get("CUDA_DEVICE_ORDER")) == (card, order)


def test_a_gpu_that_the_gateway_does_not_see_is_an_error() -> None:
    with pytest.raises(
        EnvironmentUnavailable, match="there is no card 2: CUDA_VISIBLE_DEVICES leaves 2 to this gateway"
    ):
        device_variables("cuda:2", {"CUDA_VISIBLE_DEVICES": "5,6"})


def test_instances_are_per_device() -> None:
    assert [ModelToml.model_validate({"device": d, "instances": 2}).workers for d in ("cpu", "auto", TWO)] == [2, 2, 4]


@pytest.mark.parametrize("device_name", ["cpu", "cuda:1"])
def test_a_launch_sets_the_device(device_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    runtime = Runtime("fake", "Fake", Path("fake"), ">=3.6")
    artifact = Artifact(Path("model"), runtime, "fake")
    config = ModelConfig("m", "1", "", artifact, ModelToml.model_validate({"device": TWO}), "")
    python = Interpreter(Path("python"), (3, 11, 0), "cpython", True, True, "linux", "x86_64", "glibc")
    environment = Environment(runtime, "cuda", None, python)
    launch = plan_launch(config, environment, device_name, 1, 1 << 20)
    assert launch.load.device == device_name.partition(":")[0]
    assert launch.environment["CUDA_VISIBLE_DEVICES"] == device_name.partition(":")[2]


@pytest.mark.parametrize("name", sorted(set(discover()) - {"cntk", "mxnet", "python", "fake"}))
def test_workers_whose_runtime_sets_the_threads_have_the_same_variables_for_every_number(name: str) -> None:
    runtime = discover()[name]
    artifact = Artifact(Path("model"), runtime, "any")
    config = ModelConfig("m", "1", "", artifact, ModelToml(threads=3), "")
    python = Interpreter(Path("python"), (3, 11, 0), "cpython", True, True, "linux", "x86_64", "glibc")
    environment = Environment(runtime, "cpu", None, python)
    alone = plan_launch(config, environment, "cpu", 1, 1 << 20)
    config = replace(config, toml=ModelToml(threads=7))
    other = plan_launch(config, environment, "cpu", 1, 1 << 20)
    assert (alone.load.threads, other.load.threads) == (3, 7)
    assert alone.environment == other.environment
