"""Traffic that is divided among versions, with real workers and clients, over two fronts and in every dialect."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, Reply, start_gateway
from tests.support.model_repositories import add_fake

ALL = "version_policy = { all = true }\n"
SPLIT = ALL + '[traffic]\nweights = { "3" = 70, "4" = 30 }\nsticky_header = "X-User"\n'
STEPS = '[[steps]]\nmodel = "changed"\ninputs = { x = "in" }\noutputs = { y = "out" }\n'
SCRIPT = Path(__file__).with_name("traffic_script.py")
INPUTS = {"inputs": {"x": [[1, 2, 3, 4]]}}
V2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    repository = tmp_path_factory.mktemp("traffic") / "repository"
    for name, toml in (("split", SPLIT), ("changed", ALL), ("other", ALL)):
        add_fake(repository, name, "3", toml)
        add_fake(repository, name, "4", toml, load_error="it is corrupt") if name == "other" else add_fake(
            repository, name, "4", toml
        )
    for number in ("3", "4"):
        add_fake(repository, "unloaded", number, '[traffic]\nweights = { "3" = 1 }\n')
    add_fake(repository, "newest", "3")
    add_fake(repository, "newest", "4")
    (repository / "pipe" / "1").mkdir(parents=True)
    (repository / "pipe" / "model.toml").write_text(STEPS)
    gateway = start_gateway(repository, repository.parent, "--fronts", "2").wait_ready()
    yield gateway
    gateway.close()


def predict(running: Gateway, model: str, **headers: str) -> str:
    reply = running.post(f"/predict/{model}", INPUTS, headers)
    assert reply.status == 200, reply
    return str(reply.json()["version"])


def change(running: Gateway, model: str, body: Any, verb: str = "") -> Reply:
    return running.post(f"/v2/models/{model}/traffic{verb}", body)


def outcomes(running: Gateway, model: str) -> Counter[str]:
    """Return the successful requests of each version, of both fronts."""
    stats = running.get(f"/v2/models/{model}/stats").json()["model_stats"]
    return Counter({each["version"]: each["inference_stats"]["success"]["count"] for each in stats})


def test_requests_are_divided_and_those_of_a_user_stay_together_over_two_fronts(running: Gateway) -> None:
    chosen = Counter(predict(running, "split") for _ in range(200))
    assert set(chosen) == {"3", "4"}
    assert 100 <= chosen["3"] <= 180  # 140 expected; less than one in a million by chance
    by_user = {user: {predict(running, "split", **{"X-User": user}) for _ in range(6)} for user in map(str, range(20))}
    assert all(len(versions) == 1 for versions in by_user.values())
    assert set.union(*by_user.values()) == {"3", "4"}


def test_named_versions_are_not_divided(running: Gateway) -> None:
    for version in ("3", "4"):
        reply = running.post(f"/predict/split/versions/{version}", INPUTS)
        assert reply.json()["version"] == version


def test_every_dialect_and_pipelines_follow_the_weights(running: Gateway) -> None:
    """With all weight on the older version, "no version" must not mean the newest one anywhere."""
    assert change(running, "changed", {"weights": {"3": 1}}).status == 200
    before = outcomes(running, "changed")
    sent = 0
    for path, body in {
        "/v2/models/changed/infer": V2,
        "/predict/changed": INPUTS,
        "/predict": {**INPUTS, "model": "changed"},
        "/v1/models/changed:predict": {"instances": [[1, 2, 3, 4]]},
        "/predictions/changed": {"data": [[1, 2, 3, 4]]},
    }.items():
        for _ in range(3):
            reply = running.post(path, body)
            assert reply.status == 200, (path, reply)
            sent += 1
    target = {"X-Amzn-SageMaker-Target-Model": "changed", "Content-Type": "application/json"}
    assert running.post("/invocations", {"inputs": [[1, 2, 3, 4]]}, target).status == 200
    assert running.infer("pipe", {"in": [[1, 2, 3, 4]]}) == {"out": [[2, 4, 6, 8]]}
    assert outcomes(running, "changed") - before == {"3": sent + 2}


def test_grpc_and_its_streams_follow_the_weights_and_the_header(running: Gateway) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    found = json.loads(run_client(python, SCRIPT, running.grpc, running.http, "split"))
    for kind in ("unary", "stream", "http"):
        assert set(found[kind]) == {"3", "4"}, kind
    assert all(len(set(versions)) == 1 for versions in found["by_user"].values()), found["by_user"]


def test_promotion_and_rollback_reach_all_fronts_before_the_answer(running: Gateway) -> None:
    def share_of(reply: Reply) -> dict[str, float]:
        assert reply.status == 200, reply
        return {each["version"]: each["share"] for each in reply.json()["versions"]}

    assert share_of(running.get("/v2/models/newest/traffic")) == {"4": 1.0}
    refused = change(running, "newest", {"weights": {"3": 1}})
    assert refused.status == 400
    assert refused.json()["error"] == (
        "version 3 of model 'newest' is not loaded, only 4; add it to version_policy in the model's configuration"
    )
    assert share_of(change(running, "changed", {"weights": {"3": 95, "4": 5}})) == {"3": 0.95, "4": 0.05}
    promoted = change(running, "changed", {"version": "4"}, "/promote")
    assert share_of(promoted) == {"4": 1.0, "3": 0.0}
    assert {predict(running, "changed") for _ in range(30)} == {"4"}
    assert running.get("/v2/models/changed").json()["versions"]
    assert share_of(change(running, "changed", {}, "/rollback")) == {"3": 0.95, "4": 0.05}
    assert promoted.json()["source"] == "run time"
    assert 'modelport_traffic_share{model="changed",version="4"} 0.05' in running.get("/metrics").body.decode()


def test_a_version_that_failed_to_load_gets_nothing_and_the_log_says_why(running: Gateway) -> None:
    found = change(running, "other", {"weights": {"3": 1, "4": 1}}).json()
    shares = {each["version"]: (each["share"], each["reason"]) for each in found["versions"]}
    assert shares == {"3": (1.0, ""), "4": (0.0, "it is UNAVAILABLE: it is corrupt")}
    assert {predict(running, "other") for _ in range(20)} == {"3"}
    running.wait_for(r"other: version 4 gets none of its share: it is UNAVAILABLE: it is corrupt")
    refused = change(running, "other", {"version": 4}, "/promote")
    assert (refused.status, "4 is UNAVAILABLE" in refused.json()["error"]) == (503, True)


def test_weights_of_versions_that_are_not_loaded_stop_requests_and_can_be_changed(running: Gateway) -> None:
    assert running.post("/predict/unloaded", INPUTS).status == 503
    assert running.get("/v2/models/unloaded/ready").status == 503
    assert running.get("/v2/models/unloaded/stats").status == 200
    assert running.post("/predict/unloaded/versions/4", INPUTS).status == 200
    found = running.get("/v2/models/unloaded/traffic").json()
    assert [each["reason"] for each in found["versions"]] == ["", "it is not loaded; add it to version_policy"]
    assert change(running, "unloaded", {"weights": {"4": 1}}).status == 200
    assert predict(running, "unloaded") == "4"


@pytest.mark.parametrize(
    ("verb", "body", "message"),
    [
        ("", {"weight": {"3": 1}}, "there is no key 'weight'; the keys are"),
        ("", {"weights": {"3": -1}}, "'weights.3' is -1"),
        ("", {"weights": {"3": 0}}, "at least one version must have a weight above 0"),
        ("", {"weights": {"latest": 1}}, "it must be the number of a version"),
        ("", {"sticky_header": "traceparent"}, "it differs in each request"),
        ("", {"shadow": {"version": "3", "of": "3"}}, "a version cannot be its own shadow"),
        ("/promote", {}, "the body must name the version to promote"),
        ("/rollback", {}, "was not changed at run time"),
    ],
)
def test_bad_changes_are_one_sentence_and_change_nothing(running: Gateway, verb: str, body: Any, message: str) -> None:
    before = running.get("/v2/models/split/traffic").json()
    refused = change(running, "split", body, verb)
    assert refused.status == 400
    assert message in refused.json()["error"]
    assert running.get("/v2/models/split/traffic").json() == before
    assert change(running, "nobody", body, verb).status == 404


def test_the_command_shows_and_changes_it(running: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    url = ["--url", f"http://{running.http}"]
    assert main(["traffic", "split", *url]) == 0
    shown = capsys.readouterr().out
    assert "70%" in shown
    assert "as in the model's configuration" in shown
    assert main(["traffic", "changed", "--weights", "3=90,4=10", *url]) == 0
    assert "90%" in capsys.readouterr().out
    assert main(["traffic", "changed", "--shadow", "4", "--of", "3", "--share", "0.125", *url]) == 0
    assert "of 12.5% of version 3" in capsys.readouterr().out
    assert main(["traffic", "changed", "--shadow", "none", *url]) == 0
    assert main(["traffic", "changed", "--rollback", *url]) == 0
    capsys.readouterr()
    assert main(["traffic", "changed", "--promote", "9", *url]) == 1
    assert "version 9 of model 'changed' is not loaded" in capsys.readouterr().err
    assert main(["traffic", "changed", "--weights", "3", *url]) == 2
    assert main(["traffic", "changed", "--promote", "4", "--rollback", *url]) == 2
