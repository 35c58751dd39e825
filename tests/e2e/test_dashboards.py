"""Every query of the dashboards and rules in deploy/, asked of a real Prometheus that has scraped a loaded gateway.

What a gateway without a GPU and with a ready environment does not report is served beside it, by the same collectors.
"""

import hashlib
import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from deploy.grafana.queries import STATE_COLORS
from gateway.environments.builder import BuildState
from gateway.metrics import gpu
from gateway.metrics.server import serve_metrics
from gateway.supervisor.supervisor_metrics import environment_families
from tests.support import ROOT
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.prometheus import Prometheus, needed, running_prometheus

DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
RULES = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
KEY = "the-key-of-a-tester"
IDENTITIES = f"""
[anonymous]
roles = ["infer", "read", "health:*", "metrics"]
[identities.tester]
key_sha256 = ["{hashlib.sha256(KEY.encode()).hexdigest()}"]
roles = ["infer"]
[identities.tester.quota]
requests_per_second = 1
burst = 20
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"
INTERVAL = "250ms"
# Grafana's variables, as with "All".
VARIABLES = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "10m"}
# A query that has no data after this many scrapes has none.
MAX_SCRAPES = 240


class Scraped(NamedTuple):
    gateway: Gateway
    prometheus: Prometheus


TRAFFIC = '[traffic]\nweights = { "1" = 1 }\nshadow = { version = 2, of = 1 }\n'


class FakeNvml:
    """Two cards, as the management library describes them."""

    NVMLError = RuntimeError

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 << 30, used=20 << 30),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37),
            "nvmlDeviceGetPowerUsage": 250_000,
        }
        if name == "nvmlDeviceGetHandleByIndex":
            return lambda index: f"GPU-{index}"
        if name == "nvmlDeviceGetUUID":
            return lambda device: device
        return lambda *_: answers.get(name)


class Elsewhere:
    """What a gateway on another machine would report: cards, and an environment that it has built."""

    def __init__(self) -> None:
        self._gpu = gpu.GpuCollector()

    def collect(self) -> Iterator[Any]:
        yield from self._gpu.collect()
        built = SimpleNamespace(states={"onnx": BuildState.READY, "mxnet": BuildState.FAILED}, build_s={"onnx": 42.0})
        yield from environment_families(built)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    folder = tmp_path_factory.mktemp("dashboards")
    repository = folder / "repository"
    add_fake(repository, "quick")
    add_fake(repository, "slow", seconds_per_batch=0.02, toml='memory_limit = "4GiB"\nqueue_delay_ms = 5')
    add_fake(repository, "alone", not_batchable=True)
    add_fake(repository, "shadowed", "1", "version_policy = { all = true }\nresponse_cache = true\n" + TRAFFIC)
    add_fake(repository, "shadowed", "2")
    add_fake(repository, "broken", load_error="its weights are missing")
    identities = folder / "identities.toml"
    identities.write_text(IDENTITIES)
    receiver = OtlpReceiver()
    flags = ["--identities", str(identities), "--audit-log", str(folder / "audit.jsonl")]
    flags += ["--otlp-endpoint", receiver.url, "--trace-ratio", "0"]
    running = start_gateway(repository, folder, *flags)
    registry = CollectorRegistry(auto_describe=False)
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listener:
        patch.setattr(gpu, "pynvml", FakeNvml())
        registry.register(Elsewhere())
        elsewhere = serve_metrics(listener, registry)
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL, "scrape_timeout": INTERVAL}
        config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": [running.metrics, f"127.0.0.1:{listener.getsockname()[1]}"]}]
        try:
            running.wait_ready()
            with running_prometheus(yaml.safe_dump(config), folder) as prometheus:
                eventually(prometheus, 'modelport_model_state{model="broken",state="UNAVAILABLE"} == 1')
                load(running)
                # rate() counts what is added to a series after its first scrape.
                for name in ('outcome="not_found"', 'outcome="invalid"', 'outcome="quota"'):
                    eventually(prometheus, f"modelport_requests_total{{{name}}}")
                load(running)
                yield Scraped(running, prometheus)
        finally:
            elsewhere.shutdown()
            running.close()
            receiver.close()


def load(running: Gateway) -> None:
    """A bounded load: batches, errors of clients and of the server, a crash, a quota that is used up."""

    def row(number: int) -> dict[str, Any]:
        return {"inputs": {"x": [[number + 1000] * 4]}}

    def scores(number: int) -> dict[str, Any]:
        return {"inputs": {"x": [[number + 1000, 1, 2, 3]]}}

    with ExitStack() as stack:

        def send(model: str, body: Callable[[int], Any], clients: int, most: int, **headers: str) -> Load:
            return stack.enter_context(Load(running.http, f"/predict/{model}", body, clients, most, headers))

        limited = send("quick", row, 2, 30, **{"X-API-Key": KEY})
        sent = {
            limited: 60,
            send("quick", row, 4, 50): 200,
            send("slow", row, 8, 10): 80,
            send("alone", row, 2, 20): 40,
            send("shadowed", scores, 2, 20): 40,
            send("broken", row, 1, 10): 10,
            send("nobody", row, 1, 5): 5,
            send("quick", lambda _: {"inputs": {"x": [[500.0] * 4]}}, 1, 5): 5,
            send("quick", lambda _: {"inputs": {"x": [[1, 2]]}}, 1, 5): 5,
        }
        for loader, requests in sent.items():
            loader.wait_total(requests)
    assert 429 in {status for status, *_ in limited.replies}
    mark = len(running.log)
    running.post("/predict/quick", {"inputs": {"x": [[666] * 4]}})
    running.wait_for("its worker was killed by SIGKILL; restarting", mark)
    traced = running.post("/predict/quick", row(1), {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    assert traced.status == 200


def scrapes(prometheus: Prometheus) -> float:
    found = prometheus.query('count_over_time(up{job="modelport"}[1h])')
    return min((float(series["value"][1]) for series in found), default=0.0)


def eventually(prometheus: Prometheus, expression: str) -> list[dict[str, Any]]:
    """Return the series of a query once it has any. Each try is a query."""
    while not (found := numbers(prometheus, expression)):
        assert scrapes(prometheus) < MAX_SCRAPES, f"no data: {expression}"
    return found


def numbers(prometheus: Prometheus, expression: str) -> list[dict[str, Any]]:
    return [series for series in prometheus.query(expression) if series["value"][1] != "NaN"]


def replaced(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$[a-z_]+", ".*", expression)


def panels(file: Path) -> dict[str, list[str]]:
    """Return the queries of each panel that has some."""
    content = json.loads(file.read_text())
    return {
        panel["title"]: [replaced(target["expr"]) for target in panel["targets"]]
        for panel in content["panels"]
        if panel["type"] != "row"
    }


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_panel_has_data(file: Path, scraped: Scraped) -> None:
    for title, queries in panels(file).items():
        for query in queries:
            found = eventually(scraped.prometheus, query)
            assert all(float(series["value"][1]) >= 0 for series in found), (title, query)


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_variable_has_values(file: Path, scraped: Scraped) -> None:
    for variable in json.loads(file.read_text())["templating"]["list"]:
        if variable["type"] != "query":
            continue
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert found is not None
        values = {series["metric"].get(found[2]) for series in eventually(scraped.prometheus, replaced(found[1]))}
        assert values - {None, ""}, variable["name"]


def test_panels_show_what_happened(scraped: Scraped) -> None:
    def by(label: str, query: str) -> Mapping[str, float]:
        return {each["metric"][label]: float(each["value"][1]) for each in eventually(scraped.prometheus, query)}

    overview, model = (panels(DEPLOY / f"grafana/dashboards/{name}.json") for name in ("overview", "model"))
    outcomes = by("outcome", overview["Unsuccessful requests by outcome"][0])
    assert set(outcomes) >= {"invalid", "not_found", "internal", "unavailable", "quota"}
    p50 = by("model", overview["p50 by model"][0])
    assert p50["slow"] > 0.01  # each batch takes 20 ms, which is in the bucket from 10 to 25 ms
    assert by("model", model["Batching is off"][0]) == {"alone": 1}
    eventually(scraped.prometheus, 'modelport_model_state{model="quick",state="READY"} == 1')
    states = dict(enumerate(STATE_COLORS, 1))
    now = {name: states[int(number)] for name, number in by("model", overview["State by version"][0]).items()}
    ready = dict.fromkeys(("quick", "slow", "alone", "shadowed"), "READY")
    assert now == {**ready, "broken": "UNAVAILABLE"}
    (limit,) = by("process", "modelport_process_memory_limit_bytes").items()
    assert limit == ("worker-slow-1", 4 << 30)
    utilization = by("gpu_uuid", panels(DEPLOY / "grafana/dashboards/gpus.json")["GPU utilization"][0])
    assert utilization == {"GPU-0": 0.37, "GPU-1": 0.37}


def operands(expression: str) -> list[str]:
    """Return what an alert's expression compares and combines, without numbers."""
    found = []
    for part in re.split(r"\s+(?:[<>]=?|[=!]=)\s+|\s+(?:and|or)\s+", " ".join(expression.split())):
        part = re.sub(r"^(on|ignoring) \([^)]*\)( group_(left|right))? ", "", part)
        while part.count("(") > part.count(")"):
            part = part.replace("(", "", 1)
        while part.count(")") > part.count("("):
            part = part[::-1].replace(")", "", 1)[::-1]
        if not re.fullmatch(r"[\d.]+", part):
            found.append(part)
    return found


def test_operands_are_found() -> None:
    assert operands("(a > 1 and b{x=~\"y\"} < 2) or rate(c[5m]) > on (d) group_left 0.1 * rate(e[5m])") == [
        "a", 'b{x=~"y"}', "rate(c[5m])", "0.1 * rate(e[5m])"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rule", [rule for group in RULES["groups"] for rule in group["rules"]], ids=lambda rule: next(iter(rule.values()))
)
def test_every_rule_has_data(rule: dict[str, Any], scraped: Scraped) -> None:
    if "record" in rule:
        eventually(scraped.prometheus, rule["expr"])
        eventually(scraped.prometheus, rule["record"])
        return
    for operand in operands(rule["expr"]):
        eventually(scraped.prometheus, operand)


def test_prometheus_evaluates_the_rules(scraped: Scraped) -> None:
    eventually(scraped.prometheus, 'ALERTS{alertname="ModelportModelUnavailable",model="broken"}')
    eventually(scraped.prometheus, 'ALERTS{alertname="ModelportAvailabilityFast",model="broken"}')
    groups = scraped.prometheus.get("rules")["groups"]
    assert {group["name"] for group in groups} == {group["name"] for group in RULES["groups"]}
    assert {rule["lastError"] for group in groups for rule in group["rules"] if "lastError" in rule} <= {""}


def test_prometheus_has_the_exemplars_of_traces(scraped: Scraped) -> None:
    name = "modelport_request_duration_seconds_bucket"
    while not (found := scraped.prometheus.get("query_exemplars", query=name, start="0", end="4000000000")):
        assert scrapes(scraped.prometheus) < MAX_SCRAPES
    assert {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]} == {TRACE}
    assert {series["seriesLabels"]["model"] for series in found} == {"quick"}


def test_both_ports_speak_openmetrics(scraped: Scraped) -> None:
    for address in (scraped.gateway.metrics, scraped.gateway.http):
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        request = urllib.request.Request(f"http://{address}/metrics", headers=accept)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0;")
            text = answer.read().decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families["modelport_requests"].type == "counter"
        assert families["modelport_request_duration_seconds"].type == "histogram"
        assert families["nv_inference_count"].type == "unknown"


def test_rules_and_configuration_are_valid() -> None:
    promtool, folder = needed("promtool"), DEPLOY / "prometheus"
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "tests/rules.yml"]):
        done = subprocess.run([promtool, *command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
