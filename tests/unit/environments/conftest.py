"""Real builds of tiny packages, which pip finds in a folder without looking at an index."""

import base64
import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.environments.runtime import Runtime


@pytest.fixture(autouse=True)
def _pip_without_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[..., Path]:
    """wheel(name, version) puts a wheel where pip finds it. Its one module has a VERSION.

    says: that VERSION, if it is another. needs: another distribution. folder: instead of the one where pip finds it
    """

    def make(name: str, version: str = "1.0", says: str = "", needs: str = "", folder: str = "wheels") -> Path:
        described = f"{name}-{version}.dist-info"
        requires = f"Requires-Dist: {needs}\n" if needs else ""
        files = {
            f"{name}.py": f"VERSION = {(says or version)!r}\n",
            f"{described}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
            f"{described}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        lines = []
        for path, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
            lines.append(f"{path},sha256={digest},{len(text)}")
        files[f"{described}/RECORD"] = "\n".join([*lines, f"{described}/RECORD,,", ""])
        target = tmp_path / folder / f"{name}-{version}-py3-none-any.whl"
        target.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(target, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        return target

    return make


@pytest.fixture
def runtime(tmp_path: Path) -> Callable[..., Runtime]:
    """runtime("tiny==1.0") returns a runtime that the gateway's own Python supports."""

    def make(*requirements: str, **changes: object) -> Runtime:
        ours = f"=={sys.version_info[0]}.{sys.version_info[1]}.*"
        fields = {
            "name": "tiny",
            "title": "Tiny",
            "folder": tmp_path,
            "pythons": ours,
            "requirements": {"cpu": requirements},
            "download_mb": {"cpu": 1},
        }
        return Runtime(**(fields | changes))  # type: ignore[arg-type]

    return make
