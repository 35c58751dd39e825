"""Hostile requests and floods of connections to real gateways, in small numbers: `audit/hostile/` has the programs."""

import platform
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from audit.hostile import floods
from audit.hostile.corpus import write_identities, write_models
from audit.hostile.run import attack
from audit.hostile.tally import Tally
from tests.support.gateway_process import Gateway


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_models(tmp_path / "repository")
    return tmp_path / "repository"


def test_hostile_requests_do_no_harm(gateway: Callable[..., Gateway], repository: Path) -> None:
    running = gateway(repository, "--shared-memory").wait_ready()
    result = attack(running, Tally(), 1200, 7)
    assert result.problems == []
    assert result.tally.count == 1200
    answered = Counter({outcome: count for (door, outcome), count in result.tally.outcomes.items() if door == "REST"})
    assert answered["200"] > 100
    assert answered["400"] > 100
    if platform.libc_ver()[0] == "glibc":
        assert max(map(thread_heaps, running.front_pids())) <= 2  # 15 without a limit, each with free memory of its own


def thread_heaps(pid: int) -> int:
    """Count the heaps that glibc's malloc has made for threads: 64 MiB each, of which the rest is reserved."""
    mapped = re.findall(r"^(\w+)-(\w+) (\S+)", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
    spans = [(int(begin, 16), int(end, 16), mode) for begin, end, mode in mapped]
    return sum(
        (begin % (64 << 20), mode, rest, reserved) == (0, "rw-p", end, "---p")
        for (begin, end, mode), (rest, _, reserved) in pairwise(spans)
    )


def test_hostile_requests_do_no_harm_where_clients_are_identified(
    gateway: Callable[..., Gateway], repository: Path, tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    flags = ["--identities", str(write_identities(tmp_path)), "--audit-log", str(log), "--grpc-server", "guarded"]
    result = attack(gateway(repository, *flags).wait_ready(), Tally(), 1000, 8, identities=True)
    assert result.problems == []
    outcomes = result.tally.outcomes
    for door, refused in (("REST", ("401", "403")), ("gRPC", ("UNAUTHENTICATED", "PERMISSION_DENIED"))):
        assert min(outcomes[door, code] for code in refused) > 0
    assert len(log.read_bytes().splitlines()) > 100


def test_floods_of_connections_keep_nobody_out(gateway: Callable[..., Gateway], repository: Path) -> None:
    running = gateway(repository, "--max-connections", "100").wait_ready()
    assert running.get("/openapi.json").status == 200  # the first one takes a second
    counts = {
        floods.silent: 150,
        floods.slow_heads: 120,
        floods.slow_bodies: 40,
        floods.endless_heads: 8,
        floods.bombs: 7,
        floods.unread: 6,
    }
    found = {}
    for flood, count in counts.items():
        result = floods.flood(running, flood, count, 0.0)
        assert result.problems == [], flood
        found[flood] = result.outcomes
    assert found[floods.silent]["closed"] > 40
    assert found[floods.slow_heads]["closed"] > 15
    assert found[floods.slow_bodies] == {"open": 40}  # their time has not come
    assert found[floods.endless_heads] == {"431": 8}
    assert found[floods.bombs].keys() == {"400", "413"}
