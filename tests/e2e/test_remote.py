"""A real gateway with models in S3, Google Cloud Storage, on a web server and on Hugging Face, and without them.

The stores are stand-ins (tests/support/stores.py), the models are real, and values are compared.
"""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake
from tests.support.stores import StoreServer, delete_s3, put_gcs, put_s3, start_gcs, start_s3
from tests.support.web_files import WebFiles

Start = Callable[..., Gateway]
pytestmark = pytest.mark.runtime("onnx")


def times(factor: float) -> bytes:
    """An ONNX model: y = x * factor."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    constant = numpy_helper.from_array(np.full(1, factor, np.float32), "factor")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "g", [x], [y], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    onnx.checker.check_model(content)
    return content


def factor_of(running: Gateway, model: str, version: str = "") -> float:
    ((first, second),) = running.infer(model, {"x": [[1, 10]]}, version)["y"]
    assert second == first * 10
    return first


def wait_for_factor(running: Gateway, model: str, factor: float) -> None:
    """Until a front has the new version: the log says READY before the table reaches the fronts."""
    while factor_of(running, model) != factor:
        pass  # each turn is a request


@pytest.fixture
def start(gateway: Start, tmp_path: Path) -> Start:
    """Start a gateway that serves these places, with a cache of this test's own."""

    def start(*places: str, **variables: str) -> Gateway:
        settings = {"MODELPORT_MODEL_CACHE": str(tmp_path / "cache"), "MODELPORT_REMOTE_POLL_S": "0.3"}
        return gateway(None, *places, **settings, **variables)

    return start


@pytest.fixture
def s3() -> Iterator[StoreServer]:
    server = start_s3()
    yield server
    server.kill()


def said(running: Gateway, text: str) -> list[str]:
    return [line for line in running.log if text in line]


def test_a_bucket_beside_a_folder(start: Start, s3: StoreServer, tmp_path: Path) -> None:
    put_s3(s3, "repo/scale/1/model.onnx", times(2))
    put_s3(s3, "repo/both/1/model.onnx", times(2))
    put_s3(s3, "repo/pinned/model.toml", b"version_policy = {specific = [1]}")
    put_s3(s3, "repo/pinned/1/model.onnx", times(7))
    put_s3(s3, "repo/pinned/2/model.onnx", b"not a model, and not downloaded")
    add_fake(tmp_path / "local", "both")
    running = start(str(tmp_path / "local"), "s3://models/repo", **s3.variables).wait_ready()
    assert (factor_of(running, "scale"), factor_of(running, "pinned")) == (2, 7)
    assert set(running.index()) == {("scale", "1"), ("pinned", "1"), ("both", "1"), ("both", "")}
    assert running.index()["both", ""]["state"] == "UNAVAILABLE"
    assert "rename one of them" in running.index()["both", ""]["reason"]
    assert running.infer("both", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}
    running.wait_for(r"both: it is in .*local and in s3://models/repo; only the first is served")

    put_s3(s3, "repo/scale/2/model.onnx", times(3))
    running.wait_for("scale version 1 is unloaded")
    wait_for_factor(running, "scale", 3)
    since = len(running.log)
    put_s3(s3, "repo/scale/2/model.onnx", times(4))
    running.wait_for("scale version 2 is READY", since)
    wait_for_factor(running, "scale", 4)
    since = len(running.log)
    delete_s3(s3, "repo/scale/2/model.onnx")
    running.wait_for("scale version 1 is READY", since)
    running.wait_for("scale version 2 is unloaded", since)
    wait_for_factor(running, "scale", 2)

    s3.kill()
    running.wait_for("s3://models/repo cannot be listed: the connection is refused; the models in the cache continue")
    assert factor_of(running, "scale") == 2
    assert (running.get("/v2/health/ready").status, len(said(running, "cannot be listed"))) == (200, 1)
    metrics = running.get("/metrics").body.decode()
    assert 'modelport_repository_sync_failures_total{repository="s3://models/repo"}' in metrics
    running.terminate()
    assert not said(running, "TESTSECRET")

    again = start(str(tmp_path / "local"), "s3://models/repo", **s3.variables).wait_ready()
    assert (factor_of(again, "scale"), factor_of(again, "pinned")) == (2, 7)
    again.wait_for("s3://models/repo cannot be listed: the connection is refused; the models in the cache continue")
    assert not said(again, "is downloaded")


def test_a_cold_cache_and_a_dead_store(start: Start, s3: StoreServer, tmp_path: Path) -> None:
    s3.kill()
    add_fake(tmp_path / "local", "here")
    running = start("s3://models/repo", str(tmp_path / "local"), **s3.variables)
    running.wait_for("s3://models/repo cannot be listed: the connection is refused; its models are not served")
    running.wait_served("here")
    assert running.get("/v2/health/ready").status == 503
    assert not said(running, "startup is complete")
    assert running.terminate() == 0


def test_explicit_control_downloads_what_is_loaded(start: Start, s3: StoreServer, tmp_path: Path) -> None:
    for number, name in enumerate(("first", "second", "third"), 2):
        put_s3(s3, f"repo/{name}/1/model.onnx", times(number))
    flags = ("--repository-control", "explicit", "--load-model", "first", "--model-cache-bytes", "250")
    running = start("s3://models/repo", *flags, **s3.variables).wait_ready()
    assert factor_of(running, "first") == 2
    assert {key[0]: entry["state"] for key, entry in running.index().items()} == {
        "first": "READY",
        "second": "UNAVAILABLE",
        "third": "UNAVAILABLE",
    }
    assert len(said(running, "is downloaded")) == 1
    assert running.post("/v2/repository/models/second/load").status == 200
    assert factor_of(running, "second") == 3
    # There is room for two of the models.
    reply = running.post("/v2/repository/models/third/load")
    assert reply.status == 503
    assert "model_cache_bytes" in reply.json()["error"]
    assert running.post("/v2/repository/models/first/unload").status == 200
    running.wait_for("first version 1 is unloaded")
    while running.post("/v2/repository/models/third/load").status != 200:
        pass  # the files of the first are in use until its worker has ended
    assert factor_of(running, "third") == 4
    assert running.post("/v2/repository/models/nobody/load").status == 404


def test_the_steps_of_a_pipeline_are_downloaded_with_it(start: Start, s3: StoreServer) -> None:
    put_s3(s3, "repo/step/1/model.onnx", times(3))
    put_s3(s3, "repo/other/1/model.onnx", times(3))
    put_s3(s3, "repo/all/1/.keep", b"")
    pipeline = """
        inputs = [{name = "x", datatype = "FP32", shape = [-1, 2]}]
        outputs = [{name = "y", datatype = "FP32", shape = [-1, 2]}]
        steps = [{model = "step", inputs = {x = "x"}, outputs = {y = "y"}}]
    """
    put_s3(s3, "repo/all/model.toml", pipeline.encode())
    flags = ("--repository-control", "explicit", "--load-model", "all")
    running = start("s3://models/repo", *flags, **s3.variables).wait_ready()
    assert factor_of(running, "all") == 3
    assert {key[0]: entry["state"] for key, entry in running.index().items()} == {
        "all": "READY",
        "step": "READY",
        "other": "UNAVAILABLE",
    }


def test_models_on_demand(start: Start, s3: StoreServer) -> None:
    for number, name in enumerate(("first", "second"), 2):
        put_s3(s3, f"repo/{name}/1/model.onnx", times(number))
    running = start("s3://models/repo", "--load", "on_demand", **s3.variables).wait_ready()
    assert {entry["state"] for entry in running.index().values()} == {"UNLOADED"}
    assert factor_of(running, "second") == 3
    assert {key[0] for key, entry in running.index().items() if entry["state"] == "READY"} == {"second"}


def test_the_models_of_a_models_config(start: Start, s3: StoreServer, tmp_path: Path) -> None:
    for version in (1, 2, 3):
        put_s3(s3, f"anywhere/{version}/model.onnx", times(version))
    config = tmp_path / "models.config"
    policy = "model_version_policy { specific { versions: 1 versions: 3 } }"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "s3://models/anywhere" {policy} }}\n'
        'config { name: "bad" base_path: "ftp://user:SECRET@host/m" } }'
    )
    running = start("--models-config", str(config), **s3.variables).wait_ready()
    assert [factor_of(running, "m", version) for version in ("1", "3")] == [1, 3]
    assert set(running.index()) == {("m", "1"), ("m", "3"), ("bad", "")}
    assert len(said(running, "is downloaded")) == 2
    assert not said(running, "SECRET")


def test_google_cloud_storage(start: Start, tmp_path: Path) -> None:
    server = start_gcs(tmp_path)
    try:
        put_gcs(server, "repo/scale/1/model.onnx", times(2))
        running = start("gs://models/repo", **server.variables).wait_ready()
        assert factor_of(running, "scale") == 2
        since = len(running.log)
        put_gcs(server, "repo/scale/1/model.onnx", times(5))
        running.wait_for("scale version 1 is READY", since)
        wait_for_factor(running, "scale", 5)
    finally:
        server.kill()


def archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        for name, each in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(each)
            file.addfile(info, io.BytesIO(each))
    return content.getvalue()


def test_an_archive_and_an_artifact_of_a_web_server(start: Start, tmp_path: Path) -> None:
    with WebFiles() as web:
        web.files["/a/bundle.tar.gz"] = archive(**{"scale/1/model.onnx": times(2)})
        web.files["/single.onnx"] = times(6)
        bundle, single = f"{web.url}/a/bundle.tar.gz?Signature=SECRET", f"{web.url}/single.onnx"
        running = start(bundle, single).wait_ready()
        assert (factor_of(running, "scale"), factor_of(running, "single")) == (2, 6)
        since = len(running.log)
        web.files["/a/bundle.tar.gz"] = archive(**{"scale/1/model.onnx": times(3)})
        running.wait_for("scale version 1 is READY", since)
        wait_for_factor(running, "scale", 3)
        web.files["/a/bundle.tar.gz"] = archive(**{"../scale/1/model.onnx": times(4)})
        running.wait_for("bundle version 1: its files could not be downloaded: the name '../scale/1/model.onnx' is ref")
        assert factor_of(running, "scale") == 3
        web.status = 403
        running.wait_for(r"/bundle.tar.gz cannot be read: access is denied \(403\)")
        assert (factor_of(running, "scale"), factor_of(running, "single")) == (3, 6)
        assert "SECRET" not in running.get("/metrics").body.decode()
        assert not said(running, "SECRET")
        # Unchanged files are asked for, and not sent again.
        assert web.sent.count("/single.onnx") <= 2


def test_a_gateway_stops_while_a_server_stalls(start: Start) -> None:
    with WebFiles() as web:
        web.files["/single.onnx"] = times(6)
        web.faults["/single.onnx"] = "stalls"
        running = start(f"{web.url}/single.onnx")
        while web.sent.count("/single.onnx") < 2:  # the second is the download
            running.get("/v2/health/live")
        assert running.get("/v2/health/ready").status == 503
        assert running.terminate() == 0


def test_hugging_face(start: Start, tmp_path: Path) -> None:
    with WebFiles() as web:
        web.add_hub("org/scales", {"onnx/model.onnx": times(2), "README.md": b"# Scales"})
        running = start("hf://org/scales/onnx", "--model-name", "scales", HF_ENDPOINT=web.url, HF_TOKEN="hf_SECRET")
        running.wait_ready()
        assert factor_of(running, "scales") == 2
        since = len(running.log)
        web.add_hub("org/scales", {"onnx/model.onnx": times(3)})
        running.wait_for("scales version 1 is READY", since)
        wait_for_factor(running, "scales", 3)
        assert not said(running, "SECRET")
        assert "/org/scales/resolve/" not in " ".join(path for path in web.sent if "README" in path)
