"""The documents name exactly the existing settings, keys, metrics, tests and files."""

import re
from pathlib import Path

import pytest

from gateway.access.identities_file import AnonymousToml, IdentitiesToml, IdentityToml, JwtToml, KeysToml
from gateway.config import Settings
from gateway.environments import runtime
from gateway.repository.image_config import PostprocessToml, PreprocessToml
from gateway.repository.model_toml import ModelToml
from tests.support import ROOT

README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def rows(text: str, head: str) -> list[list[str]]:
    """Return the rows of the table with this head. Cells count from 1."""
    return [line.split("|") for line in text[text.index(head) :].split("\n\n")[0].splitlines()[2:]]


def keys(text: str, head: str) -> list[str]:
    """Return the words in the first column of the table with this head."""
    return [name for row in rows(text, head) for name in re.findall(r"`\[*([a-z_]+)\]*`", row[1])]


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {
        row[1].strip(" `"): row[2].strip(" `") for row in rows(CONFIGURATION, "| setting | default | meaning |")
    }
    sizes = {"MiB": 1 << 20, "GiB": 1 << 30}
    for name, field in Settings.model_fields.items():
        if name == "runtimes":
            continue
        number, _, unit = documented.pop(name).partition(" ")
        default = str(field.default).removesuffix(".0")
        if isinstance(field.default, bool):
            default = default.lower()
        assert (str(int(number) * sizes[unit]) if unit else number) == default, name
    assert not documented


def test_every_key_of_model_toml_is_documented() -> None:
    assert sorted(keys(CONFIGURATION, "| key | default | meaning |")) == sorted(ModelToml.model_fields)


def test_every_key_of_the_identities_file_is_documented() -> None:
    text = (ROOT / "docs/security.md").read_text()
    documented = {word for row in rows(text, "| key | default | meaning |") for word in re.findall(r"\w+", row[1])}
    kinds = (AnonymousToml, IdentitiesToml, IdentityToml, JwtToml, KeysToml)
    assert documented - {"NAME"} == {name for kind in kinds for name in kind.model_fields}


def test_every_key_for_images_is_documented() -> None:
    text = (ROOT / "docs/images.md").read_text()
    assert sorted(keys(text, "| `[preprocess]` | default | meaning |")) == sorted(PreprocessToml.model_fields)
    assert sorted(keys(text, "| `[postprocess]` | default | meaning |")) == sorted(PostprocessToml.model_fields)


def test_every_key_of_runtime_toml_is_documented() -> None:
    text = (ROOT / "docs/runtimes.md").read_text()
    fields = set(runtime.Runtime.__dataclass_fields__) - {"name", "folder", "base"}  # not keys
    assert sorted(keys(text, "| key | meaning |")) == sorted(fields)
    assert sorted(keys(text, "| key of a format | meaning |")) == sorted(runtime.Format.__dataclass_fields__)


def test_every_metric_is_documented() -> None:
    modules = (
        "metrics/cache.py",
        "metrics/collector.py",
        "metrics/gpu.py",
        "metrics/identities.py",
        "metrics/shadows.py",
        "supervisor/memory_metrics.py",
        "supervisor/process_metrics.py",
        "supervisor/security.py",
        "supervisor/supervisor_metrics.py",
        "supervisor/traffic.py",
    )
    sources = "".join((ROOT / "gateway" / name).read_text() for name in modules)
    names = set(re.findall(r'"((?:modelport|nv)_[a-z_]+)"', sources))
    text = (ROOT / "docs/metrics.md").read_text()
    documented = {name.removesuffix("_total") for name in re.findall(r"^\| `(\w+)`", text, re.M) if "_" in name}
    assert {name for name in documented if name.startswith(("modelport_", "nv_"))} == names


def test_every_runtime_is_documented() -> None:
    names = sorted(file.parent.name for file in ROOT.glob("runtimes/*/runtime.toml") if file.parent.name != "fake")
    assert sorted(row[1].strip() for row in rows(README, "| runtime | serves |")) == names
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/runtimes.md").read_text(), re.M)
    assert sorted(headings) == names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_to_existing_files(document: Path) -> None:
    text = document.read_text()
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        if "://" in link:
            continue
        target = document.parent / link if link else document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings], link
    tests = {file.name for file in ROOT.glob("tests/**/test_*.py")}
    assert not set(re.findall(r"\btest_\w+\.py", text)) - tests


def test_the_module_map_names_every_folder() -> None:
    """It names all folders and loose files of the gateway and of the top of runtimes, and nothing else."""
    text = (ROOT / "docs/architecture.md").read_text().split("## Module map")[1].split("```")[1]
    named: set[str] = set()
    above: list[str] = []
    for line in text.strip().splitlines():
        found = re.match(r"( *)((?:\w+(?:/|\.py) )+)", f"{line} ")
        assert found is not None, line
        names = [name.rstrip("/") for name in found[2].split()]
        above = above[: len(found[1]) // 2]
        named |= {"/".join([*above, name]) for name in names}
        above.append(names[0])
    files = [*ROOT.glob("gateway/**/*.py"), *ROOT.glob("runtimes/*.py"), *ROOT.glob("runtimes/*/__init__.py")]
    paths = [file.relative_to(ROOT) for file in files]
    loose = {str(path) for path in paths if len(path.parts) == 2 and path.name[0] != "_"}
    assert named == {str(path.parent) for path in paths} | loose
