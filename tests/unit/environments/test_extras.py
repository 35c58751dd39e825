"""Extras: a model that asks for them gets an environment with them, shared by models that ask for the same."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.environments import built
from gateway.environments.environment import EnvironmentUnavailable, build, locate
from gateway.environments.errors import BrokenRequirements
from gateway.environments.model_packages import with_model_packages
from gateway.environments.runtime import Runtime, discover, read_runtime
from gateway.repository.scan import scan


@pytest.fixture
def base(runtime) -> Runtime:
    extras = {"vision": {"cpu": ("vision==1.0",), "cuda": ("vision-cuda==1.0",)}, "audio": {"cpu": ("audio==1.0",)}}
    return replace(runtime("tiny==1.0"), requirements={"cpu": ("tiny==1.0",), "cuda": ("tiny==1.0",)}, extras=extras)


def of(base: Runtime, *extras: str) -> Runtime:
    return with_model_packages(base, Path("nowhere"), extras=extras)


def test_models_that_ask_for_the_same_extras_share_an_environment(base):
    assert of(base) is base
    both = of(base, "vision", "audio")
    assert both == of(base, "audio", "vision", "audio")
    assert both.name.startswith("tiny-")
    assert both.installed_name == "tiny"
    assert both.requirements == {
        "cpu": ("tiny==1.0", "audio==1.0", "vision==1.0"),
        "cuda": ("tiny==1.0", "audio==1.0", "vision-cuda==1.0"),
    }
    assert len({each.name for each in (base, both, of(base, "vision"), of(base, "audio"))}) == 4


def test_an_extra_may_replace_packages_of_the_runtime(base):
    other = replace(base, extras={"other": {"cpu": ("tiny-fast==1.0",), "without": ("Tiny",)}})
    assert of(other, "other").requirements == {"cpu": ("tiny-fast==1.0",), "cuda": ("tiny-fast==1.0",)}


def test_an_extra_may_exist_for_fewer_versions_of_python(base):
    other = replace(base, pythons=">=3.11,<3.15", extras={"other": {"cpu": ("other==1.0",), "pythons": ("<3.14",)}})
    assert of(other, "other").pythons == ">=3.11,<3.15,<3.14"


def test_an_unknown_extra_is_refused_with_those_that_there_are(base):
    with pytest.raises(BrokenRequirements, match=r"the extra 'video' of Tiny, but it has audio, vision$"):
        of(base, "vision", "video")
    with pytest.raises(BrokenRequirements, match=r"but it has none; remove the key"):
        of(replace(base, extras={}), "vision")


def test_the_environment_is_built_with_them_listed_and_not_locked(base, wheel, tmp_path):
    for name in ("tiny", "audio"):
        wheel(name)
    asked = of(base, "audio")
    environment = locate(asked, "cpu", tmp_path)
    asyncio.run(build(environment, lambda line: None))
    assert {"tiny", "audio"} <= set(environment.installed)
    assert [each.runtime.name for each in built.of_models(tmp_path, {"tiny": base})] == [asked.name]
    with pytest.raises(EnvironmentUnavailable, match="which no lock covers"):
        locate(asked, "cpu", tmp_path, require_lock=True)


def test_model_toml_asks_for_extras(tmp_path):
    for name, extras in (("detector", '["torchvision"]'), ("other", '["vision"]')):
        folder = tmp_path / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.pt2").write_bytes(b"")
        (tmp_path / name / "model.toml").write_text(f"artifact = 'model.pt2'\nextras = {extras}\n")
    runtimes = {name: replace(each, formats=tuple(replace(form, zip_entry=None) for form in each.formats))
                for name, each in discover().items()}  # fmt: skip
    detector, other = scan(tmp_path, runtimes)
    assert detector.artifact is not None
    assert "torchvision==0.28.0" in detector.artifact.runtime.requirements["cpu"]
    assert other.problem.startswith("its model.toml asks for the extra 'vision' of PyTorch")
    assert other.problem.endswith("it has torchaudio, torchvision")


def test_a_runtime_declares_them(tmp_path):
    (tmp_path / "runtime.py").write_text("")
    (tmp_path / "runtime.toml").write_text(
        'title = "Tiny"\npythons = ">=3.8"\n[requirements]\ncpu = ["tiny"]\n[extras.vision]\ncpu = ["vision==1.0"]\n'
    )
    assert read_runtime(tmp_path, "tiny").extras == {"vision": {"cpu": ("vision==1.0",)}}
