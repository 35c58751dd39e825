"""The files in deploy/: dashboards are what the script makes, valid for Grafana, and use metrics that exist."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.make_dashboards import FOLDER, files
from deploy.grafana.queries import FAULTS
from tests.support import ROOT

DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
DOCUMENTED = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.M))
# Of Prometheus itself.
OTHERS = {"up", "ALERTS"}
plugins.register_default_plugins()


def metrics(expression: str) -> set[str]:
    """Return the names of metrics in an expression, without the suffixes of histograms."""
    names = re.findall(r"\b(?:modelport|nv)_\w+", re.sub(r"\w*:[\w:]+|\"[^\"]*\"", "", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) if name not in DOCUMENTED else name for name in names}


def expressions(dashboard: dict[str, Any]) -> list[str]:
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return queries + [each["query"]["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]


def test_the_files_are_those_of_the_script() -> None:
    assert {file.name: file.read_text() for file in FOLDER.iterdir()} == files(), (
        "run python -m deploy.grafana.make_dashboards"
    )


@pytest.mark.parametrize("name", files())
def test_grafana_knows_every_field(name: str) -> None:
    """Grafana's own library drops what it does not know."""
    content = json.loads(files()[name])
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(content)))
    assert _known(content, read) == content


def _known(content: Any, read: Any) -> Any:
    """Return the part of the content that is in `read`, which has defaults too."""
    if isinstance(content, dict):
        return {key: _known(value, read[key]) for key, value in content.items() if key in read}
    if isinstance(content, list):
        return [_known(value, each) for value, each in zip(content, read, strict=True)]
    return read


@pytest.mark.parametrize("name", files())
def test_panels_have_an_id_and_a_position_of_their_own(name: str) -> None:
    panels = json.loads(files()[name])["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel["title"] for panel in panels if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_dashboards_use_metrics_that_exist() -> None:
    for name, content in files().items():
        used = set().union(*map(metrics, expressions(json.loads(content))))
        assert used
        assert used <= DOCUMENTED, name
        if name == "triton.json":
            assert all(metric.startswith("nv_") for metric in used)


def test_uids_are_distinct() -> None:
    dashboards = [json.loads(content) for content in files().values()]
    assert len({dashboard["uid"] for dashboard in dashboards}) == len(dashboards)
    assert {tag for dashboard in dashboards for tag in dashboard["tags"]} == {"modelport"}


def test_rules_use_metrics_that_exist() -> None:
    for rule in (rule for group in RULES["groups"] for rule in group["rules"]):
        assert metrics(rule["expr"]) <= DOCUMENTED, rule
    recorded = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
    used = [rule["expr"] for rule in ALERTS] + [
        each for text in files().values() for each in expressions(json.loads(text))
    ]
    assert {name for each in used for name in re.findall(r"\w*:[\w:]+", re.sub(r'"[^"]*"', "", each))} <= recorded
    failed = next(rule["expr"] for rule in RULES["groups"][0]["rules"] if "failed" in rule.get("record", ""))
    assert f'outcome=~"{FAULTS}"' in failed


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alerts_say_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["alert"].startswith("Modelport")
    assert alert["labels"]["severity"] in ("page", "ticket", "info")
    assert {*alert["annotations"]} == {"summary", "description", "runbook"}
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.M)
    assert anchor in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]


def test_every_alert_is_seen_firing_in_its_unit_tests() -> None:
    named = re.findall(r"Modelport\w+", (DEPLOY / "prometheus/tests/rules.yml").read_text())
    assert set(named) == {alert["alert"] for alert in ALERTS}


def test_what_compose_mounts_exists_and_fits() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert re.fullmatch(r".+:[\w.]+", service["image"]), "each image has a tag"
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for volume in service["volumes"]:
            source = volume.rpartition(":/")[0]
            assert not source.startswith("./") or (DEPLOY / source).is_dir(), (name, volume)
    mounted = {volume.split(":")[1] for volume in services["grafana"]["volumes"]}
    provisioning = DEPLOY / "grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/modelport.yaml").read_text())["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert provider["options"]["path"] == str(Path(home).parent)
    assert provider["options"]["path"] in mounted
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    scraping = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraping["global"]["scrape_interval"]
    assert source["url"] == "http://prometheus:9090"
