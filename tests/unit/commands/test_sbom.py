"""Bills of materials, checked against CycloneDX's schema by its own library."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from gateway.cli import main
from gateway.commands import sbom
from gateway.environments.environment import Locator, locate
from gateway.environments.runtime import Runtime

_METADATA = {
    "Tiny_One": "Requires-Dist: base>=1\nRequires-Dist: plain; os_name == 'x'\nLicense-Expression: MIT OR BSL-1.0",
    "base": "License: " + "the text of a license " * 10 + "\nClassifier: License :: OSI Approved :: BSD License",
    "plain": "License: UNKNOWN",
}


@pytest.fixture
def locator(tmp_path, monkeypatch):
    """Of `tiny` and `second`, with environments as builds leave them, and `other`, which is not built."""
    ours = f"=={sys.version_info[0]}.{sys.version_info[1]}.*"
    tiny = Runtime("tiny", "Tiny", tmp_path, ours, requirements={"cpu": ("tiny-one",)})
    second = replace(tiny, name="second", npm=("@scope/library@2.0", "left-pad@1.0"))
    known = {"tiny": tiny, "second": second, "other": replace(tiny, name="other")}
    monkeypatch.setattr(sbom, "discover", lambda: known)
    monkeypatch.setattr(sbom, "converters", dict)
    for each in (tiny, second):
        environment = locate(each, "cpu", tmp_path)
        environment.python.parent.mkdir(parents=True)
        environment.python.touch()
        (environment.folder / "pyvenv.cfg").touch()
        marker = {"accelerator": "cpu", "installed": {}, "hashes": {"tiny-one": "ab" * 32}}
        (environment.folder / "modelport.json").write_text(json.dumps(marker))
        for name, text in _METADATA.items():
            described = environment.folder / "lib" / "python3.x" / "site-packages" / f"{name}-1.0.dist-info"
            described.mkdir(parents=True)
            (described / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{text}\n")
    return Locator(tmp_path, "cpu", {})


def valid(text: str) -> dict:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert error is None, error
    return json.loads(text)


def licenses(component: dict) -> list[str]:
    found = [
        each.get("expression") or each["license"].get("id") or each["license"]["name"]
        for each in component.get("licenses", ())
    ]
    return sorted(found)


def test_the_gateways_bill_lists_what_it_needs_and_nothing_else_that_is_installed(tmp_path):
    assert main(["sbom", "--output", str(tmp_path / "bill.json")]) == 0
    bill = valid((tmp_path / "bill.json").read_text())
    assert bill["metadata"]["component"]["name"] == "modelport"
    assert licenses(bill["metadata"]["component"]) == ["Apache-2.0"]
    components = {each["name"]: each for each in bill["components"]}
    assert components["fastapi"]["purl"] == f"pkg:pypi/fastapi@{components['fastapi']['version']}"
    assert {"starlette", "numpy", "pydantic_core"} <= set(components)  # needed directly, or by what is
    assert not {"pytest", "mypy", "pip", "modelport"} & set(components)
    assert licenses(components["fastapi"]) == ["MIT"]
    vendored = components["swagger-ui-dist"]  # from npm, in the console
    assert vendored["purl"] == f"pkg:npm/swagger-ui-dist@{vendored['version']}"
    assert licenses(vendored) == ["Apache-2.0"]
    assert [each["alg"] for each in vendored["hashes"]] == ["SHA-512"]
    needed = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert components["starlette"]["bom-ref"] in needed[components["fastapi"]["bom-ref"]]
    owns = needed[bill["metadata"]["component"]["bom-ref"]]
    assert {components["fastapi"]["bom-ref"], vendored["bom-ref"]} <= set(owns)


def test_an_environments_bill_has_versions_hashes_and_licenses(locator, capsys):
    assert sbom.environments_sbom("tiny", locator, None) == 0
    bill = valid(capsys.readouterr().out)
    assert bill["metadata"]["component"]["name"] == "modelport-tiny"
    assert {"name": "modelport:locked", "value": "false"} in bill["metadata"]["component"]["properties"]
    components = {each["name"]: each for each in bill["components"]}
    assert set(components) == {"Tiny_One", "base", "plain", "cpython"}
    assert components["Tiny_One"]["purl"] == "pkg:pypi/tiny-one@1.0"
    assert components["Tiny_One"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert "hashes" not in components["base"]
    assert [licenses(components[name]) for name in _METADATA] == [["MIT OR BSL-1.0"], ["BSD License"], []]
    needed = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert needed["pkg:pypi/tiny-one@1.0"] == ["pkg:pypi/base@1.0"]


def test_one_bill_describes_every_environment_that_is_built(locator, tmp_path):
    assert sbom.environments_sbom("", locator, tmp_path / "bill.json") == 0
    bill = valid((tmp_path / "bill.json").read_text())
    found = {each["name"]: [inner.get("purl") for inner in each["components"]] for each in bill["components"]}
    assert set(found) == {"modelport-tiny", "modelport-second"}
    assert "pkg:npm/%40scope/library@2.0" in found["modelport-second"]
    assert "pkg:npm/left-pad@1.0" in found["modelport-second"]


def test_what_cannot_be_described_says_why(locator, monkeypatch, capsys, tmp_path):
    def refused(name: str, output: Path | None = None) -> str:
        assert sbom.environments_sbom(name, locator, output) == 1
        return capsys.readouterr().err

    assert refused("nothing") == "modelport: there is no runtime 'nothing': installed are other, second, tiny\n"
    assert "other is not built by modelport: run 'modelport runtimes install other'" in refused("other")
    assert "cannot be written: No such file or directory" in refused("tiny", tmp_path / "no" / "bill.json")
    monkeypatch.delattr("gateway.commands.bill", raising=False)
    monkeypatch.setitem(sys.modules, "gateway.commands.bill", None)
    assert "which is missing: pip install 'modelport[sbom]'" in refused("tiny")
