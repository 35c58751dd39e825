"""Of two runtimes that read the same files, one stands in where the other cannot be had."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Sources, read_settings
from gateway.environments.builder import Builder
from gateway.environments.runtime import Format, Runtime, discover
from gateway.export.workspace import Environments
from gateway.repository.formats import Artifact, UnknownFormat, find_artifact, identify, resolve_runtime
from gateway.repository.scan import scan, with_runtime

NEVER = "==2.6.*"  # a Python that no machine has
EVER = ">=3.11"
ACME = Runtime("acme", "Acme", Path(), NEVER, requirements={"cpu": ("acme",)}, formats=(Format("acme", ("*.acme",)),))
OURS_FORMATS = (Format("acme_ours", ("*.acme", "*.old")),)
OURS = replace(ACME, name="ours", pythons=EVER, formats=OURS_FORMATS, fallback_for="acme")
# In whatever order they are discovered.
ORDERS = [{"acme": ACME, "ours": OURS}, {"ours": OURS, "acme": ACME}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "repository" / "m" / "1" / "model.acme"
    made.parent.mkdir(parents=True)
    made.touch()
    return made


@pytest.mark.parametrize("runtimes", ORDERS)
@pytest.mark.parametrize("find", [lambda file, known: find_artifact(file.parent, known), identify])
def test_the_first_has_it_and_the_other_is_remembered(
    file: Path, find: Callable[..., Artifact], runtimes: dict[str, Runtime]
) -> None:
    found = find(file, runtimes)
    assert (found.runtime, found.platform) == (ACME, "acme")
    assert found.fallback == Artifact(file, OURS, "acme_ours")


def test_what_only_the_other_reads_is_its_own(file: Path) -> None:
    old = file.rename(file.with_suffix(".old"))
    assert find_artifact(old.parent, ORDERS[0]) == identify(old, ORDERS[0]) == Artifact(old, OURS, "acme_ours")


def test_where_the_first_looks_into_a_file_in_vain_the_other_may_still_read_it(file: Path) -> None:
    picky = replace(ACME, formats=(Format("acme", ("*.acme",), zip_entry="x"),))
    assert identify(file, {"acme": picky, "ours": OURS}).runtime == OURS
    with pytest.raises(UnknownFormat, match="not a readable zip file"):
        identify(file, {"acme": picky})


@pytest.mark.parametrize(
    ("can", "runtime"), [(("acme", "ours"), "acme"), (("acme",), "acme"), (("ours",), "ours"), ((), "acme")]
)
def test_it_stands_in_where_only_it_can_be_had(file: Path, can: tuple[str, ...], runtime: str) -> None:
    """Where neither can, the sentence is about the first."""
    found = resolve_runtime(identify(file, ORDERS[0]), lambda each: each.name in can)
    assert (found.runtime.name, found.fallback) == (runtime, None)


def builder(only: frozenset[str] = frozenset(), **external: Path) -> Builder:
    return Builder(Path(), "cpu", external, only, lambda: None)


def test_a_gateway_serves_by_what_it_can_have(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (config,) = scan(file.parents[2], ORDERS[0])

    def served_by(builder: Builder) -> str:
        artifact = with_runtime(config, builder.available).artifact
        assert artifact is not None
        return artifact.runtime.name

    assert served_by(builder()) == "ours"
    assert "the runtime acme cannot be had here: Acme needs Python ==2.6.*, found" in caplog.text
    assert served_by(builder(frozenset({"acme"}))) == "acme"  # which then says why it cannot be had
    # A Python that somebody has set for it is meant, also where it does not run.
    assert served_by(builder(acme=Path("/nowhere/python"))) == "acme"
    possible = replace(ACME, pythons=EVER)
    (config,) = scan(file.parents[2], {"acme": possible, "ours": OURS})
    assert served_by(builder()) == "acme"
    assert served_by(builder(frozenset({"ours"}))) == "ours"


def test_an_export_loads_it_in_what_it_can_have(tmp_path: Path) -> None:
    known = Environments(tmp_path, read_settings(Sources()), lambda line: None)
    assert (known.is_available(ACME), known.is_available(OURS)) == (False, True)


def test_cntk_has_one() -> None:
    known = discover()
    assert known["cntk_onnx"].fallback_for == "cntk"
    files = [[pattern for form in known[name].formats for pattern in form.files] for name in ("cntk", "cntk_onnx")]
    assert files[0] == files[1]
