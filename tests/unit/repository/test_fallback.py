"""A runtime that reads the same files as another is used if the other is not available."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Sources, read_settings
from gateway.environments.builder import Builder
from gateway.environments.runtime import Format, Runtime, discover
from gateway.export.workspace import Environments
from gateway.repository.errors import UnknownFormat
from gateway.repository.formats import Artifact, find_artifact, identify, resolve_runtime
from gateway.repository.model_config import with_runtime
from gateway.repository.scan import scan

NEVER = "==2.6.*"  # a Python that no machine has
EVER = ">=3.11"
ACME = Runtime("acme", "Acme", Path(), NEVER, requirements={"cpu": ("acme",)}, formats=(Format("acme", ("*.acme",)),))
OURS_FORMATS = (Format("acme_ours", ("*.acme", "*.old")),)
OURS = replace(ACME, name="ours", pythons=EVER, formats=OURS_FORMATS, fallback_for="acme")
# The order of discovery does not matter.
ORDERS = [{"acme": ACME, "ours": OURS}, {"ours": OURS, "acme": ACME}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "repository" / "m" / "1" / "model.acme"
    made.parent.mkdir(parents=True)
    made.touch()
    return made


@pytest.mark.parametrize("runtimes", ORDERS)
@pytest.mark.parametrize("find", [lambda file, known: find_artifact(file.parent, known), identify])
def test_the_first_runtime_is_chosen_and_the_other_is_its_fallback(
    file: Path, find: Callable[..., Artifact], runtimes: dict[str, Runtime]
) -> None:
    found = find(file, runtimes)
    assert (found.runtime, found.platform) == (ACME, "acme")
    assert found.fallback == Artifact(file, OURS, "acme_ours")


def test_files_that_only_the_fallback_reads_are_its_own(file: Path) -> None:
    old = file.rename(file.with_suffix(".old"))
    assert find_artifact(old.parent, ORDERS[0]) == identify(old, ORDERS[0]) == Artifact(old, OURS, "acme_ours")


def test_a_file_that_the_first_runtime_rejects_may_be_read_by_the_other(file: Path) -> None:
    picky = replace(ACME, formats=(Format("acme", ("*.acme",), zip_entry="x"),))
    assert identify(file, {"acme": picky, "ours": OURS}).runtime == OURS
    with pytest.raises(UnknownFormat, match="not a readable zip file"):
        identify(file, {"acme": picky})


@pytest.mark.parametrize(
    ("can", "runtime"), [(("acme", "ours"), "acme"), (("acme",), "acme"), (("ours",), "ours"), ((), "acme")]
)
def test_the_fallback_is_used_if_only_it_is_available(file: Path, can: tuple[str, ...], runtime: str) -> None:
    """If neither is available, the error is about the first."""
    found = resolve_runtime(identify(file, ORDERS[0]), lambda each: each.name in can)
    assert (found.runtime.name, found.fallback) == (runtime, None)


def builder(only: frozenset[str] = frozenset(), **external: Path) -> Builder:
    return Builder(Path(), "cpu", external, only, lambda: None)


def test_a_gateway_serves_with_the_available_runtime(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (config,) = scan(file.parents[2], ORDERS[0])

    def served_by(builder: Builder) -> str:
        artifact = with_runtime(config, builder.available).artifact
        assert artifact is not None
        return artifact.runtime.name

    assert served_by(builder()) == "ours"
    assert "the runtime acme is not available here: Acme needs Python ==2.6.*, found" in caplog.text
    assert served_by(builder(frozenset({"acme"}))) == "acme"  # the error says why it is not available
    # A Python that the user has set is used, even if it does not work.
    assert served_by(builder(acme=Path("/nowhere/python"))) == "acme"
    possible = replace(ACME, pythons=EVER)
    (config,) = scan(file.parents[2], {"acme": possible, "ours": OURS})
    assert served_by(builder()) == "acme"
    assert served_by(builder(frozenset({"ours"}))) == "ours"


def test_an_export_uses_the_available_runtime(tmp_path: Path) -> None:
    known = Environments(tmp_path, read_settings(Sources()), lambda line: None)
    assert (known.is_available(ACME), known.is_available(OURS)) == (False, True)


def test_cntk_has_a_fallback() -> None:
    known = discover()
    assert known["cntk_onnx"].fallback_for == "cntk"
    files = [[pattern for form in known[name].formats for pattern in form.files] for name in ("cntk", "cntk_onnx")]
    assert files[0] == files[1]
