"""The audit of the gateway's dependencies: what it makes of pip-audit's reports and of the dated list."""

import datetime
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from audit import dependencies
from audit.dependencies import ALLOWED, FAILED, FOUND, NO_RESULT, Allowed, main, outcome, read_allowed

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


class OsvHandler(BaseHTTPRequestHandler):
    """Speaks OSV's protocol, and knows one vulnerability, of orjson."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        affected = {
            "package": {"name": name, "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999.0"}]}],
        }
        vulnerability = {
            "id": "GHSA-aaaa-bbbb-cccc", "aliases": ["CVE-1"], "summary": "", "details": "", "affected": [affected],
            "published": "2026-01-01T00:00:00Z", "modified": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        body = json.dumps({"vulns": [vulnerability]} if name == "orjson" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_gateways_packages_are_looked_up_by_the_real_pip_audit(monkeypatch, tmp_path, capsys):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    allowed = tmp_path / "allowed.toml"
    allowed.write_text("")
    monkeypatch.setattr(dependencies, "ALLOWED", allowed)
    with ThreadingHTTPServer(("127.0.0.1", 0), OsvHandler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            arguments = ["--service", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"]
            assert main(arguments) == FOUND
            output = capsys.readouterr().out
            assert "pip-audit: vulnerable: orjson " in output
            assert ", fixed in 999.0\n" in output
            assert "vulnerable: numpy" not in output
            allowed.write_text('[[allowed]]\nid = "CVE-1"\npackage = "orjson"\nuntil = 2999-01-01\nreason = "a test"\n')
            assert main(arguments) == 0
        finally:
            server.shutdown()
            thread.join()


def test_a_service_that_refuses_connections_is_a_skip_by_name(monkeypatch, capsys):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    # Bound and not listening: connections to it are refused, and no other process gets the port meanwhile.
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{refusing.getsockname()[1]}/v1/query"
        assert main(["--service", "osv", "--osv-url", url]) == NO_RESULT
    assert "pip-audit: skipped, because the vulnerability service did not answer" in capsys.readouterr().out
