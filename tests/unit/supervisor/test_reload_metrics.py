"""Whether files that are read again could be used, as a metric."""

import asyncio
import re
from pathlib import Path

from gateway.config import Settings
from gateway.domain.control import GetMetrics
from gateway.supervisor.supervisor import Supervisor
from tests.support.certificates import Authority


def successful(supervisor: Supervisor) -> dict[str, float]:
    """Return the metric by file."""
    _, text = asyncio.run(supervisor.handlers(GetMetrics()))
    found = re.findall(r'^modelport_last_reload_successful\{file="(\w+)"\} (\S+)$', text, re.M)
    return {name: float(value) for name, value in found}


def test_a_certificate_without_its_key_is_a_failed_reload(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, new = authority.server(), authority.server("new")
    identities = tmp_path / "identities.toml"
    identities.write_text("[anonymous]\nroles = []\n")
    settings = Settings(
        http="127.0.0.1:0",
        grpc="127.0.0.1:0",
        metrics="",
        tls_cert=str(server.cert),
        tls_key=str(server.key),
        identities=str(identities),
    )
    supervisor = Supervisor(tmp_path, settings, {})
    try:
        assert successful(supervisor) == {"tls": 1, "identities": 1}
        server.cert.write_bytes(new.cert.read_bytes())
        assert supervisor.certificates.renewals is not None
        for _ in range(2):
            asyncio.run(supervisor.certificates.renewals.check())
        assert successful(supervisor) == {"tls": 0, "identities": 1}
    finally:
        supervisor.close()


def test_a_server_that_reads_nothing_again_has_no_such_metric(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, Settings(http="127.0.0.1:0", grpc="127.0.0.1:0", metrics=""), {})
    try:
        assert successful(supervisor) == {}
    finally:
        supervisor.close()
