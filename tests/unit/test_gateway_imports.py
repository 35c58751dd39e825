"""The gateway imports only the standard library and the dependencies in pyproject.toml, and therefore no framework."""

import ast
import itertools
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

OURS = {"gateway", "runtimes"}
# Packages of extras that are too large for every machine, or of no use on most.
OFTEN_ABSENT = {"pynvml": "nvidia-ml-py", "py4j": "pyspark"}
OFTEN_ABSENT |= {name: name for name in ("aiohttp", "pyspark", "ray", "yarl")}


def imported() -> dict[str, str]:
    """Return top-level name → a file that imports it, at any level of the file."""
    found = {}
    for file in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            found.update({name.partition(".")[0]: str(file.relative_to(ROOT)) for name in names})
    return found


def declared() -> set[str]:
    """Return the dependencies in [project], those of its extras, and their own dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    return set(_with_their_own([Requirement(each) for each in needed]))


def _with_their_own(needed: list[Requirement]) -> Iterator[str]:
    seen = set()
    while needed:
        requirement = needed.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        yield name
        try:
            needed += [Requirement(each) for each in requires(name) or ()]
        except PackageNotFoundError:
            continue


def test_all_imports_are_declared() -> None:
    of, may = packages_distributions(), declared()
    for name, file in imported().items():
        if name in sys.stdlib_module_names or name in OURS:
            continue
        distributions = of.get(name) or ([OFTEN_ABSENT[name]] if name in OFTEN_ABSENT else [])
        assert {canonicalize_name(each) for each in distributions} & may, f"{file} imports {name}"


def test_the_gateway_does_not_list_runtimes_by_name() -> None:
    """Formats and converters of exports may have the names of runtimes, and so have flavors of MLflow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = set(project["entry-points"]["modelport.runtimes"]) - {"python"}  # which also names the interpreter
    name = re.compile("|".join(f"[\"']{name}[\"']" for name in names))
    files = {str(file.relative_to(ROOT)): file.read_text() for file in (ROOT / "gateway").rglob("*.py")}
    others = ("gateway/export/", "gateway/commands/export.py", "gateway/generated/", "gateway/repository/mlmodel.py")
    assert [path for path, text in files.items() if name.search(text) and not path.startswith(others)] == []
    assert not name.search((ROOT / "Dockerfile.gpu").read_text())
