"""docs/export.md shows the routes as they are."""

from gateway.environments.runtime import converters
from gateway.export.errors import CannotExport
from gateway.export.proof import TOLERANCES
from gateway.export.routes import FORMATS, TARGETS, routes
from tests.conftest import ROOT

TEXT = (ROOT / "docs/export.md").read_text()


def table() -> str:
    lines = ["| from | to | by, best first |", "|---|---|---|"]
    for source in FORMATS.values():
        for target in TARGETS:
            try:
                found = routes(source, target)
            except CannotExport:
                continue
            ways = [f"{route.name} ({route.about})" if route.about else route.name for route in found]
            lines.append(f"| {source} | {target} | {'; '.join(ways)} |")
    return "\n".join(lines)


def test_the_routes_are_told() -> None:
    assert table() in TEXT, f"docs/export.md lacks this table:\n{table()}"


def test_every_environment_is_told() -> None:
    for name in converters():
        assert f"| {name} |" in TEXT, name


def test_tolerances_are_told() -> None:
    for precision, tolerance in TOLERANCES.items():
        told = f"{tolerance:.0e}".replace("e-0", "e-")
        assert any(precision in line and f"| {told} |" in line for line in TEXT.splitlines()), (precision, told)
