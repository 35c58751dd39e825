"""The audit of the gateway's dependencies: what it makes of pip-audit's reports and of the dated list."""

import datetime
import json

import pytest

from audit.dependencies import ALLOWED, FAILED, FOUND, NO_RESULT, Allowed, outcome, read_allowed

TODAY = datetime.date(2026, 6, 15)
CLEAN = {"name": "clean", "version": "1.0", "vulns": []}
BAD = {
    "name": "Bad_One",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"], "description": ""}],
}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited: unknown (1.0)"}
VULNERABLE = "vulnerable: Bad_One 2.0: PYSEC-1 = CVE-1, fixed in 2.1"


def entry(days: int, name: str = "CVE-1", package: str = "bad-one") -> Allowed:
    return Allowed(name, package, TODAY + datetime.timedelta(days), "not reachable")


@pytest.mark.parametrize(
    ("dependencies", "allowed", "code", "said"),
    [
        ([CLEAN], [], 0, "1 of 1 packages audited"),
        ([CLEAN, BAD], [], FOUND, VULNERABLE),
        ([BAD], [entry(0)], 0, "allowed until 2026-06-15: Bad_One 2.0: PYSEC-1 = CVE-1, fixed in 2.1 (not reachable)"),
        ([BAD], [entry(-1)], FOUND, f"{VULNERABLE}, allowed only until 2026-06-14"),
        ([BAD], [entry(9, "CVE-2")], FOUND, VULNERABLE),
        ([BAD], [entry(9, package="other")], FOUND, VULNERABLE),
        ([CLEAN], [entry(9)], 0, "no longer needed in allowed_vulnerabilities.toml: CVE-1"),
        # pip-audit itself reports success here, with "No known vulnerabilities found".
        ([CLEAN, UNKNOWN], [], NO_RESULT, "the vulnerability service does not know unknown"),
        ([BAD, UNKNOWN], [], FOUND, VULNERABLE),
    ],
)
def test_a_vulnerability_fails_unless_it_is_allowed_today(dependencies, allowed, code, said):
    found, lines = outcome(json.dumps({"dependencies": dependencies, "fixes": []}), "", allowed, TODAY)
    assert found == code
    assert said in lines


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        ("ERROR: Could not connect\nERROR: Tip: your network may be blocking this service. Try another", NO_RESULT),
        ("Traceback\nrequests.exceptions.ConnectionError: Failed to resolve 'host'", NO_RESULT),
        ("Traceback\nKeyError: 'id'", FAILED),
    ],
)
def test_a_service_that_cannot_be_reached_is_no_result(stderr, code):
    assert outcome("", stderr, [], TODAY) == (code, [stderr.splitlines()[-1]])


def test_the_list_of_the_project_is_valid_and_each_entry_has_a_date(tmp_path):
    read_allowed(ALLOWED)
    file = tmp_path / "list.toml"
    file.write_text('[[allowed]]\nid = "CVE-1"\npackage = "bad-one"\nuntil = 2026-06-15\nreason = "not reachable"\n')
    assert read_allowed(file) == [entry(0)]
    for wrong in (file.read_text().replace("2026-06-15", '"never"'), '[[allowed]]\nid = "CVE-1"', "[["):
        file.write_text(wrong)
        with pytest.raises(ValueError, match=r"list\.toml"):
            read_allowed(file)
