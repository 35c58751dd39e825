"""A line of the access log: what it has, and that no client can forge or break one."""

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.request_record import RequestRecord
from gateway.front.base.access_log import AccessLog
from gateway.front.base.grpc_code import Code
from gateway.process.line_file import LineFile

TRACE = "0af7651916cd43dd8448eb211c80319c"


def logged(folder: Path, *fields: dict[str, Any]) -> list[str]:
    """Return the lines of records with these fields."""
    path = folder / "access.log"

    async def main() -> None:
        log = AccessLog(LineFile(path, "access log", logging.getLogger("test")))
        for each in fields:
            status = each.pop("status", 200)
            record = RequestRecord(log, **{"protocol": "http", "method": "POST", "path": "/p", "peer": "", **each})
            record.end(status)
        log.file.close()

    asyncio.run(main())
    return path.read_text("ascii").splitlines()


def test_a_line_has_what_is_known_of_the_request(tmp_path: Path) -> None:
    known = {
        "peer": "192.0.2.7:1", "identity": "alice", "path": "/v2/models/m/infer", "model": "m", "version": "3",
        "bytes_in": 10, "batch_rows": 4, "request_id": "r-1", "user_agent": "curl/8",
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
        "arrived": 1.0, "queued": 1.5, "sent": 1.501, "answered": 1.51, "queue_ns": 2_000_000,
        "compute_input_ns": 1000, "compute_infer_ns": 2_000_000, "compute_output_ns": 500,
    }  # fmt: skip
    [line] = logged(tmp_path, known)
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found.pop("duration_ms") > 0
    assert found == {
        "protocol": "http", "peer": "192.0.2.7:1", "identity": "alice", "method": "POST", "path": "/v2/models/m/infer",
        "model": "m", "version": "3", "http_status": 200, "grpc_status": None, "outcome": "success", "bytes_in": 10,
        "bytes_out": 0, "queue_ms": 3.0, "compute_ms": 2.002, "batch_rows": 4, "request_id": "r-1", "trace_id": TRACE,
        "user_agent": "curl/8",
    }  # fmt: skip


def test_what_was_never_sent_has_waited_until_it_failed(tmp_path: Path) -> None:
    [line] = logged(tmp_path, {"queued": 1.5, "answered": 31.5, "status": 504})
    assert json.loads(line)["queue_ms"] == 30_000


def test_a_call_has_the_name_of_its_code(tmp_path: Path) -> None:
    lines = logged(tmp_path, *({"protocol": "grpc", "method": "", "status": code} for code in (Code.OK, Code.ABORTED)))
    assert [[json.loads(line)[key] for key in ("method", "http_status", "grpc_status")] for line in lines] == [
        [None, None, "OK"], [None, None, "ABORTED"]
    ]  # fmt: skip


@pytest.mark.parametrize("field", ["path", "model", "user_agent"])
def test_no_text_of_a_client_ends_a_line_or_makes_it_long(tmp_path: Path, field: str) -> None:
    control, face = "a\nb\r\x1b[2J\x85\N{LINE SEPARATOR}\N{RIGHT-TO-LEFT OVERRIDE}", "\N{GRINNING FACE}" * 300
    texts = [control, '"}', "x" * 100_000, "\udc80", "\x00" * 300, face]
    lines = logged(tmp_path, *({field: text} for text in texts))
    everything = dict.fromkeys(["path", "model", "version", "user_agent", "identity"], face)
    lines += logged(tmp_path, everything)[-1:]
    assert len(lines) == len(texts) + 1
    assert all(len(line) < 4096 and line.isprintable() for line in lines)
    assert [json.loads(line)[field] for line in lines[:2]] == texts[:2]


def test_a_traceparent_that_is_none_is_no_trace(tmp_path: Path) -> None:
    given = ["", "00-1-2-01", f"00-{TRACE.upper()}-b7ad6b7169203331-01", "x" * 512]
    lines = logged(tmp_path, *({"traceparent": each} for each in given), {"trace_id": TRACE})
    assert [json.loads(line)["trace_id"] for line in lines] == [None] * 4 + [TRACE]
