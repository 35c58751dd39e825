"""Entry points are found as importlib.metadata finds them."""

import importlib.metadata
from pathlib import Path

import pytest

from gateway.environments.entry_points import entry_points


def declare(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    distribution = name.partition("-")[0].removesuffix(".egg")
    (folder / name / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
    (folder / name / "entry_points.txt").write_text(text)


@pytest.mark.parametrize("group", ["modelport.runtimes", "console_scripts", "pytest11", "no.such.group"])
def test_those_of_this_environment(group: str) -> None:
    found = sorted((point.name, point.module) for point in entry_points(group))
    assert found == sorted((point.name, point.module) for point in importlib.metadata.entry_points(group=group))


def test_forms_of_entries_and_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    declare(
        first, "one-1.0.dist-info", "[other]\nx = y\n\n[ the.group ]\na=pkg.a\n # no entry\nb.c-d = pkg:attr [extra]\n"
    )
    declare(first, "two.egg-info", "[the.group]\ne = pkg.e\n[other]\nf = pkg.f\n")
    declare(second, "One-2.0.dist-info", "[the.group]\ng = shadowed\n")
    declare(second, "a_b.c-1-py3.11.egg-info", "[the.group]\nh = pkg.h\n")
    (first / "without-1.0.dist-info").mkdir()
    archive = tmp_path / "archive.zip"
    archive.write_bytes(b"PK")
    monkeypatch.setattr("sys.path", [str(tmp_path / "absent"), str(archive), str(first), str(second)])
    assert [tuple(point) for point in entry_points("the.group") if point.distribution != "two"] == [
        ("a", "pkg.a", "one"),
        ("b.c-d", "pkg", "one"),
        ("h", "pkg.h", "a_b_c"),
    ]
    assert [tuple(point) for point in entry_points("the.group") if point.distribution == "two"] == [
        ("e", "pkg.e", "two")
    ]
