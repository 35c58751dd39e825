"""Our own runtimes follow the rules for third parties in docs/runtimes.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

RUNTIMES = sorted(file.parent for file in ROOT.glob("runtimes/*/runtime.toml"))


def allowed() -> list[str]:
    """Return the modules of the package `runtimes` in the table of docs/runtimes.md."""
    text = (ROOT / "docs/runtimes.md").read_text()
    table = text[text.index("| module | what it is for |") :].split("\n\n")[0]
    return [name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z0-9_.]+)`", row.split("|")[1])]


def imported(file: Path) -> Iterator[str]:
    """Yield the absolute names that a file imports from the package `runtimes`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "runtimes")
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module == "runtimes":
            yield from (f"runtimes.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("runtimes."):
            yield str(node.module)


@pytest.mark.parametrize("folder", RUNTIMES, ids=lambda folder: folder.name)
def test_a_runtime_imports_its_own_files_relatively_and_of_ours_what_the_table_names(folder: Path) -> None:
    names = {f"runtimes.{name}" for name in allowed()}
    assert len(names) > 5
    for file in folder.rglob("*.py"):
        for module in imported(file):
            assert any(module == name or module.startswith(f"{name}.") for name in names), f"{file}: {module}"
            assert not module.startswith(f"runtimes.{folder.name}."), f"{file} imports {module}: not relatively"
            assert module != "runtimes.conversion" or file.name == "convert.py", file


def test_every_module_that_the_table_names_is_there_and_used() -> None:
    used = {module for folder in RUNTIMES for file in folder.rglob("*.py") for module in imported(file)}
    for name in allowed():
        assert any(f"{module}.".startswith(f"runtimes.{name}.") for module in used), name
