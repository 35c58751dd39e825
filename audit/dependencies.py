"""Known vulnerabilities of the packages that the gateway needs, by pip-audit: make pip-audit.

    .venv/bin/python -m audit.dependencies [--service pypi|osv] [--osv-url URL]

Vulnerabilities in allowed_vulnerabilities.toml are allowed until their date. The exit code is 0 if no other is known,
1 if one is, 2 if that file is wrong or pip-audit fails, and 3 if the vulnerability service does not answer for every
package, which is no result.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from gateway.environments.distributions import of_the_gateway

ALLOWED = Path(__file__).with_name("allowed_vulnerabilities.toml")
FOUND, FAILED, NO_RESULT = 1, 2, 3
# What pip-audit prints about a service that it could not reach: its own advice, or the exception.
_NOT_REACHED = ("your network may be blocking this service", "requests.exceptions.Connect")


class Allowed(NamedTuple):
    """until: the last day on which it is allowed."""

    id: str
    package: str
    until: datetime.date
    reason: str


class Vulnerability(NamedTuple):
    """ids: its own, and those of the same vulnerability in other databases. fixed_in: versions."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fixes = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "not fixed in any version"
        return f"{self.package} {self.version}: {' = '.join(self.ids)}, {fixes}"


def read_allowed(file: Path) -> list[Allowed]:
    """Raises ValueError, with one sentence."""
    try:
        tables = tomllib.loads(file.read_text()).get("allowed", [])
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file.name} is not TOML: {error}") from None
    for table in tables:
        if set(table) != set(Allowed._fields) or type(table["until"]) is not datetime.date:
            raise ValueError(
                f"{file.name}: each [[allowed]] has id, package, until (a date) and reason, unlike {table}"
            )
    return [Allowed(**table) for table in tables]


def verdict(report: Mapping[str, Any], allowed: Iterable[Allowed], today: datetime.date) -> tuple[int, list[str]]:
    """Return the exit code and what to print. report: the JSON of pip-audit."""
    found = [vulnerability for each in report["dependencies"] for vulnerability in _of(each)]
    skipped = [each["name"] for each in report["dependencies"] if "skip_reason" in each]
    audited = len(report["dependencies"]) - len(skipped)
    lines, failing, used = [], False, set()
    for each in found:
        entries = [entry for entry in allowed if entry.id in each.ids and _same(entry.package, each.package)]
        used.update(entries)
        if entry := next((entry for entry in entries if today <= entry.until), None):
            lines.append(f"allowed until {entry.until}: {each} ({entry.reason})")
            continue
        failing = True
        expired = f", allowed only until {entries[0].until}" if entries else ""
        lines.append(f"vulnerable: {each}{expired}")
    lines += [f"no longer needed in {ALLOWED.name}: {entry.id}" for entry in allowed if entry not in used]
    if skipped:
        lines.append(f"the vulnerability service does not know {', '.join(skipped)}")
    lines.append(f"{audited} of {len(report['dependencies'])} packages audited")
    return (FOUND if failing else NO_RESULT if skipped else 0), lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="the vulnerability service")
    parser.add_argument("--osv-url", default="", help="the address of another service that speaks OSV's protocol")
    options = parser.parse_args(arguments)
    try:
        allowed = read_allowed(ALLOWED)
    except ValueError as error:
        print(f"pip-audit: {error}")
        return FAILED
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text("".join(f"{each.name}=={each.version}\n" for each in of_the_gateway()[1:]))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--vulnerability-service", options.service]
        if options.osv_url:
            command += ["--osv-url", options.osv_url]
        done = subprocess.run(command, capture_output=True, text=True)
    code, lines = outcome(done.stdout, done.stderr, allowed, datetime.date.today())
    for line in lines:
        print(f"pip-audit: {line}")
    if code == NO_RESULT:
        print("pip-audit: skipped, because the vulnerability service did not answer for every package")
    return code


def outcome(stdout: str, stderr: str, allowed: Iterable[Allowed], today: datetime.date) -> tuple[int, list[str]]:
    """Return the exit code and what to print, for what pip-audit printed."""
    try:
        report = json.loads(stdout)
    except ValueError:
        reached = not any(text in stderr for text in _NOT_REACHED)
        return (FAILED if reached else NO_RESULT), stderr.strip().splitlines()[-1:]
    return verdict(report, list(allowed), today)


def _of(dependency: Mapping[str, Any]) -> Iterable[Vulnerability]:
    for each in dependency.get("vulns", ()):
        ids = (each["id"], *each.get("aliases", ()))
        yield Vulnerability(dependency["name"], dependency["version"], ids, tuple(each["fix_versions"]))


def _same(name: str, other: str) -> bool:
    return canonicalize_name(name) == canonicalize_name(other)


if __name__ == "__main__":
    sys.exit(main())
