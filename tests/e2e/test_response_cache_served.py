"""Response caches of a real gateway: the same bytes as without one, in every form of an answer, and in the metrics."""

import json
import re
import struct
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import Gateway, Reply, start_gateway
from tests.support.model_repositories import add_fake

SCORES = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
TWO = [{"name": name, "datatype": "FP32", "shape": [-1, 4]} for name in ("y", "z")]
LABELS = 'max_batch_size = 8\n[labels]\ny = "labels.txt"\n'
VALUES = [0.0, -0.0, 1.5, 3e-40]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "repository"


@pytest.fixture(scope="module")
def running(repository: Path) -> Iterator[Gateway]:
    for name, cache in (("cached", "true"), ("direct", "false"), ("replaced", '"8MiB"')):
        add_fake(repository, name, toml=f"response_cache = {cache}\n{LABELS}", inputs=SCORES, outputs=TWO)
        (repository / name / "labels.txt").write_text("a\nb\nc\nd\n")
    add_fake(repository, "earlier", toml="response_cache = true\nstateful = true", stateful=True)
    flags = ("--fronts", "1", "--poll-s", "0.1", "--shared-memory")
    gateway = start_gateway(repository, repository.parent, *flags).wait_ready()
    yield gateway
    gateway.close()


def count(running: Gateway, model: str, metric: str = "modelport_cache_hits_total") -> int:
    found = re.search(rf'^{metric}{{model="{model}",version="1"}} (\S+)$', running.get("/metrics").body.decode(), re.M)
    return int(float(found[1])) if found else 0


def v2(outputs: list[Any] | None = None, **others: Any) -> bytes:
    body: dict[str, Any] = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": VALUES}],
        **others,
    }
    if outputs is not None:
        body["outputs"] = outputs
    return json.dumps(body).encode()


def binary() -> tuple[bytes, dict[str, str]]:
    described = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    nan = struct.pack("<4I", 0x7FC00001, 0xFFC00000, 0x80000000, 1)
    return head + nan, {"Inference-Header-Content-Length": str(len(head))}


def forms() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    yield "/v2/models/%s/infer", v2(), {}
    yield "/v2/models/%s/infer", v2([{"name": "z"}, {"name": "y"}]), {}
    yield "/v2/models/%s/infer", v2([{"name": "y"}], id="five"), {}
    yield "/v2/models/%s/infer", v2([{"name": "y", "parameters": {"classification": 2}}]), {}
    yield "/v2/models/%s/infer", v2(parameters={"priority": 1}), {}
    yield "/v2/models/%s/infer", *binary()
    plain = json.dumps({"inputs": {"x": [VALUES, VALUES]}}).encode()
    yield "/predict/%s", plain, {}
    one = json.dumps({"inputs": {"x": [VALUES, VALUES]}, "outputs": ["z"]}).encode()
    yield "/predict/%s", one, {"Accept": "application/x-npy"}
    yield "/v1/models/%s:predict", json.dumps({"instances": [VALUES]}).encode(), {}
    yield "/predictions/%s", json.dumps({"data": [VALUES]}).encode(), {}


@pytest.mark.parametrize(("path", "body", "headers"), list(forms()))
def test_answers_from_the_cache_are_the_same_bytes(
    running: Gateway, path: str, body: bytes, headers: dict[str, str]
) -> None:
    def ask(model: str) -> Reply:
        return running.request("POST", path % model, body, headers)

    expected = ask("direct")
    assert expected.status == 200, expected
    before = count(running, "cached")
    for _ in range(3):
        found = ask("cached")
        assert (found.status, found.body.replace(b"cached", b"direct")) == (200, expected.body)
        assert found.headers["content-type"] == expected.headers["content-type"]
    assert count(running, "cached") >= before + 2


def test_an_answer_from_the_cache_is_written_to_the_shared_memory_of_each_request(running: Gateway) -> None:
    memory = SharedMemory(create=True, size=32)
    try:
        region = {"key": memory.name, "offset": 0, "byte_size": 32}
        assert running.post("/v2/systemsharedmemory/region/cache/register", region).status == 200
        before = count(running, "cached")
        for offset in (0, 16, 0):
            memory.buf[:] = bytes(32)
            place = {"shared_memory_region": "cache", "shared_memory_byte_size": 16, "shared_memory_offset": offset}
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [5, 6, 7, 8]}
            body = {"inputs": [tensor], "outputs": [{"name": "y", "parameters": place}]}
            assert running.post("/v2/models/cached/infer", body).status == 200
            assert bytes(memory.buf[offset : offset + 16]) == struct.pack("<4f", 10, 12, 14, 16)
            assert bytes(memory.buf[16 - offset : 32 - offset]) == bytes(16)
        assert count(running, "cached") == before + 2
    finally:
        running.post("/v2/systemsharedmemory/unregister", {})
        memory.close()
        memory.unlink()


def test_the_statistics_and_metrics_are_triton_s(running: Gateway) -> None:
    for _ in range(2):
        running.infer("cached", {"x": [[9, 9, 9, 9]]})
    stats = running.get("/v2/models/cached/stats").json()["model_stats"][0]
    hits, misses = (stats["inference_stats"][kind] for kind in ("cache_hit", "cache_miss"))
    assert hits["count"] == count(running, "cached") > 0 < hits["ns"]
    assert misses["count"] == count(running, "cached", "modelport_cache_misses_total") > 0 < misses["ns"]
    assert stats["inference_stats"]["success"]["count"] == hits["count"] + misses["count"]
    assert count(running, "cached", "nv_cache_num_hits_per_model") == hits["count"]
    assert count(running, "cached", "nv_cache_num_misses_per_model") == misses["count"]
    assert stats["inference_stats"]["compute_infer"]["count"] == misses["count"]
    assert running.get("/v2/models/cached/config").json()["response_cache"] == {"enable": True}
    assert count(running, "direct", "modelport_cache_misses_total") == 0


def test_a_model_that_was_replaced_never_answers_from_before(running: Gateway, repository: Path) -> None:
    for _ in range(2):
        assert running.infer("replaced", {"x": [[1, 2, 3, 4]]})["y"] == [[2, 4, 6, 8]]
    assert count(running, "replaced") == 1
    mark = len(running.log)
    add_fake(repository, "replaced", inputs=SCORES, outputs=TWO, not_batchable=True, inert=True)
    running.wait_for(r"replaced version 1 is READY", mark)
    running.wait_for(r"replaced version 1 is unloaded", mark)
    while running.infer("replaced", {"x": [[1, 2, 3, 4]]})["y"] == [[2, 4, 6, 8]]:
        pass  # each turn is a request: the table is on its way to the front
    assert running.infer("replaced", {"x": [[1, 2, 3, 4]]})["y"] == [[4.5, 6.5, 8.5, 10.5]]


def test_a_model_whose_answers_vary_has_none_and_the_log_says_so(running: Gateway) -> None:
    running.wait_for(r"earlier version 1 has no response cache: its answers depend on earlier requests")
    first, second = (running.infer("earlier", {"x": [[1, 2, 3, 4]]}) for _ in range(2))
    assert first != second
