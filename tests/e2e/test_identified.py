"""Clients with API keys and tokens, as they are, against a gateway of two fronts; keys that are withdrawn meanwhile."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread

import grpc
import psutil
import pytest

from gateway.access.keys import digest_of, new_key
from gateway.access.policy import NO_ADMIN
from gateway.generated.open_inference_pb2 import RepositoryModelUnloadRequest
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake
from tests.support.tokens import AUDIENCE, ISSUER, Issuer, key_set
from tests.support.v2_calls import Call, Value, as_json, as_message

SCRIPT = Path(__file__).parent / "identified_script.py"
CLIENTS = {
    "tritonclient": ("tritonclient[all]==2.73.0",),
    "kserve": ("kserve==0.21.0",),
    "tfserving": ("tensorflow-cpu==2.21.0", "grpcio==1.85.1", "protobuf==7.36.2"),
}
ALONE = {"tfserving": ("tensorflow-serving-api==2.21.0",)}
INFER = Call("m", (Value("x", "FP32", (1, 2), [1.0, 2.0]),))
X = [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
Y = [{**X[0], "name": "y"}]
PATH = "/inference.GRPCInferenceService/ModelInfer"


class Guarded:
    """A gateway, the keys of its clients, and the issuer of its tokens."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "identities.toml"
        self.ci, self.rotated, self.operator, self.prometheus = (new_key() for _ in range(4))
        self.issuer = Issuer("1")
        self.keys = key_set(self.issuer)
        guarded = self

        class Jwks(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(guarded.keys)

            def log_message(self, *arguments: object) -> None:
                pass

        self.jwks = HTTPServer(("127.0.0.1", 0), Jwks)
        Thread(target=self.jwks.serve_forever, args=(0.01,), daemon=True).start()
        for name in ("m", "other"):
            add_fake(folder / "repository", name, inputs=X, outputs=Y)
        self.write()
        flags = ("--identities", str(self.file), "--fronts", "2", "--audit-log", str(folder / "audit.jsonl"))
        self.gateway: Gateway = start_gateway(folder / "repository", folder, *flags)

    def write(self, *ci: str, comment: str = "") -> None:
        """Replace the file. ci: the keys of that client; by default, both."""
        keys = json.dumps([digest_of(key) for key in ci or (self.ci, self.rotated)])
        text = f"""
            # {comment}
            [identities.ci]
            key_sha256 = {keys}
            roles = ["infer:m"]
            [identities.operator]
            key_sha256 = ["{digest_of(self.operator)}"]
            roles = ["admin", "read", "metrics"]
            [identities.prometheus]
            key_sha256 = ["{digest_of(self.prometheus)}"]
            roles = ["metrics:m"]
            [jwt]
            jwks = "http://127.0.0.1:{self.jwks.server_port}/keys"
            issuer = "{ISSUER}"
            audience = "{AUDIENCE}"
        """
        partial = self.file.with_suffix(".partial")
        partial.write_text(text)
        partial.rename(self.file)

    def request(
        self, method: str, path: str, key: str = "", body: bytes | None = None, port: str = ""
    ) -> tuple[int, str]:
        connection = HTTPConnection(port or self.gateway.http, timeout=60)
        try:
            return ask(connection, method, path, key, body)
        finally:
            connection.close()

    def front_pids(self) -> list[int]:
        return [
            process.pid
            for process in psutil.Process(self.gateway.process.pid).children()
            if "gateway.front.process" in process.cmdline()
        ]


def ask(
    connection: HTTPConnection, method: str, path: str, key: str = "", body: bytes | None = None
) -> tuple[int, str]:
    connection.request(method, path, body, {"X-API-Key": key} if key else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path_factory.mktemp("identified"))
    try:
        guarded.gateway.wait_ready()
        yield guarded
    finally:
        guarded.gateway.close()
        guarded.jwks.shutdown()
        guarded.jwks.server_close()


@pytest.mark.parametrize("client", ["tritonclient", "tfserving"])
def test_real_clients_with_a_key(guarded: Guarded, client: str) -> None:
    python = client_python(client, *CLIENTS[client], alone=ALONE.get(client, ()))
    addresses = (guarded.gateway.http, guarded.gateway.grpc)
    assert "all of it worked" in run_client(python, SCRIPT, client, *addresses, guarded.ci)


def test_a_real_client_with_a_token(guarded: Guarded) -> None:
    python = client_python("kserve", *CLIENTS["kserve"])
    token = guarded.issuer.token(roles=["infer:m"])
    addresses = (guarded.gateway.http, guarded.gateway.grpc)
    assert "all of it worked" in run_client(python, SCRIPT, "kserve", *addresses, token)


def test_curl(guarded: Guarded) -> None:
    def curl(path: str, *flags: str) -> str:
        command = ["curl", "-sSi", *flags, f"http://{guarded.gateway.http}{path}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    body = ("-H", "Content-Type: application/json", "-d", '{"inputs": [[1, 2]]}')
    for headers in (f"Authorization: Bearer {guarded.ci}", f"X-API-Key: {guarded.ci}"):
        for path in ("/predict/m", "/predictions/m"):  # TorchServe's clients send Authorization: Bearer as well
            assert curl(path, "-H", headers, *body).startswith("HTTP/1.1 200")
    refused = curl("/predictions/m", *body)
    assert refused.startswith("HTTP/1.1 401")
    assert 'www-authenticate: Bearer realm="modelport"' in refused
    assert "UnauthorizedException" in refused
    assert "the Basic scheme of Authorization is not accepted" in curl("/predict/m", "-u", "ci:password", *body)
    assert "the AWS scheme of Authorization is not accepted" in curl(
        "/predict/m", "-H", "Authorization: AWS4-HMAC-SHA256 Credential=AKIA/20261130/eu/sagemaker/aws4_request", *body
    )


def test_roles_decide_who_changes_and_measures_the_server(guarded: Guarded) -> None:
    unload = "/v2/repository/models/other/unload"
    assert guarded.request("POST", unload)[0] == 401
    assert guarded.request("POST", unload, guarded.ci)[0] == 403
    assert guarded.request("POST", unload, guarded.operator)[0] == 200
    assert guarded.request("POST", unload.replace("unload", "load"), guarded.operator)[0] == 200
    assert guarded.request("GET", "/v2/models", guarded.operator) == (200, '{"models":["m","other"]}')
    for port in (guarded.gateway.http, guarded.gateway.metrics):
        assert guarded.request("GET", "/metrics", port=port)[0] == 401
        assert guarded.request("GET", "/metrics", guarded.ci, port=port)[0] == 403
        everything = guarded.request("GET", "/metrics", guarded.operator, port=port)
        some = guarded.request("GET", "/metrics", guarded.prometheus, port=port)
        assert 'process="worker-other' in everything[1]
        assert '{model="m",' in some[1]
        assert "other" not in some[1]
    assert guarded.request("GET", "/v2/models/m/ready")[0] == 401
    assert guarded.request("GET", "/v2/models/m/ready", guarded.ci)[0] == 200


class Load:
    """Requests of one client over REST and gRPC, until `stop`; the answers that were not right."""

    def __init__(self, guarded: Guarded, key: str) -> None:
        self.failures: list[object] = []
        self.count = 0
        self._stopping = Event()
        self._threads = [Thread(target=each, args=(guarded, key)) for each in (self._rest, self._grpc)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _rest(self, guarded: Guarded, key: str) -> None:
        connection = HTTPConnection(guarded.gateway.http, timeout=60)
        while not self._stopping.is_set():
            status, text = ask(connection, "POST", INFER.path, key, as_json(INFER))
            self.count += 1
            if status != 200:
                self.failures.append(text)
        connection.close()

    def _grpc(self, guarded: Guarded, key: str) -> None:
        message = as_message(INFER, raw=True).SerializeToString()
        with grpc.insecure_channel(guarded.gateway.grpc) as channel:
            while not self._stopping.is_set():
                try:
                    channel.unary_unary(PATH)(message, timeout=60, metadata=[("x-api-key", key)])
                    self.count += 1
                except grpc.RpcError as error:
                    self.failures.append(error)


def test_a_key_is_withdrawn_while_others_are_served(guarded: Guarded) -> None:
    """Connections are open, heads and identities are remembered, and a stream is in progress."""
    body, message = as_json(INFER), as_message(INFER, raw=True).SerializeToString()
    connections = [HTTPConnection(guarded.gateway.http, timeout=60) for _ in range(8)]  # to both fronts
    channels = [grpc.insecure_channel(guarded.gateway.grpc, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)]
    metadata = [("authorization", f"Bearer {guarded.ci}")]
    go = Event()

    def messages() -> Iterator[bytes]:
        yield message
        go.wait(60)
        yield message

    def stream(channel: grpc.Channel) -> Iterator[bytes]:
        path = PATH.replace("ModelInfer", "ModelStreamInfer")
        answers: Iterator[bytes] = channel.stream_stream(path)(messages(), timeout=120, metadata=metadata)
        return answers

    streams = [stream(channel) for channel in channels]
    for connection in connections:
        for _ in range(4):
            assert ask(connection, "POST", INFER.path, guarded.ci, body)[0] == 200
    for channel, answers in zip(channels, streams, strict=True):
        channel.unary_unary(PATH)(message, timeout=60, metadata=metadata)
        assert b"infer" not in next(answers)
    load = Load(guarded, guarded.rotated)
    try:
        since = len(guarded.gateway.log)
        guarded.write(guarded.rotated)
        guarded.gateway.wait_for("the identities have changed, and are in use", since)
        for connection in connections:  # the fronts get the policy in this moment
            while (found := ask(connection, "POST", INFER.path, guarded.ci, body))[0] == 200:
                pass
            assert found == (401, '{"error":"the API key is not valid; ask the operator of this server for one"}')
        for channel in channels:
            while (
                call := channel.unary_unary(PATH).future(message, timeout=60, metadata=metadata)
            ).exception() is None:
                pass
            assert call.code() is grpc.StatusCode.UNAUTHENTICATED
        go.set()
        for answers in streams:
            assert b"the API key is not valid" in next(answers)
        for number in range(2):
            since = len(guarded.gateway.log)
            guarded.write(*([guarded.ci, guarded.rotated] if number else [guarded.rotated, guarded.operator[::-1]]))
            guarded.gateway.wait_for("the identities have changed, and are in use", since)
    finally:
        go.set()
        load.stop()
        for closing in (*connections, *channels):
            closing.close()
    assert load.failures == []
    assert load.count > 10
    while guarded.request("POST", INFER.path, guarded.ci, body)[0] != 200:
        pass  # the key is back


def test_a_file_that_is_broken_keeps_the_identities(guarded: Guarded) -> None:
    since = len(guarded.gateway.log)
    text = guarded.file.read_text()
    guarded.file.write_text(text.replace("infer:m", "infre:m"))
    guarded.gateway.wait_for("the identities have changed, but the earlier ones stay in use: .* is not a role", since)
    assert guarded.request("POST", INFER.path, guarded.ci, as_json(INFER))[0] == 200
    replaced = text.replace('["metrics:m"]', '["metrics:m", "health:m"]')
    since = len(guarded.gateway.log)
    guarded.file.write_text(replaced)
    guarded.gateway.wait_for("the identities have changed, and are in use", since)
    found = [json.loads(line) for line in (guarded.file.parent / "audit.jsonl").read_text().splitlines()]
    changes = [line for line in found if line["request"] == "identities"]
    assert {(line["action"], line["identity"], line["peer"]) for line in changes} == {("admin", None, "")}
    assert "invalid" in [line["outcome"] for line in changes]


def test_an_issuer_changes_its_keys(guarded: Guarded) -> None:
    new = Issuer("2")
    token = new.token(roles=["infer:m"])
    assert guarded.request("POST", INFER.path, token, as_json(INFER))[0] == 401
    guarded.keys = key_set(guarded.issuer, new)
    # The keys are fetched again because of the unknown one, at most every 10 s.
    while guarded.request("POST", INFER.path, token, as_json(INFER))[0] != 200:
        pass
    assert guarded.request("POST", INFER.path, guarded.issuer.token(), as_json(INFER))[0] == 403


def test_a_new_front_serves_nobody_before_it_has_the_identities(guarded: Guarded) -> None:
    body, since = as_json(INFER), len(guarded.gateway.log)
    for pid in guarded.front_pids():
        os.kill(pid, signal.SIGKILL)
    statuses = []
    while not any("front." in line and "serving" in line for line in guarded.gateway.log[since:]):
        try:
            statuses.append(guarded.request("POST", INFER.path, "", body)[0])
        except (OSError, HTTPException):
            continue
    statuses.append(guarded.request("POST", INFER.path, "", body)[0])
    assert set(statuses) == {401}


def test_no_process_shows_a_key_or_a_digest(guarded: Guarded) -> None:
    keys = [guarded.ci, guarded.rotated, guarded.operator, guarded.prometheus]
    secrets = [*keys, *map(digest_of, keys), str(guarded.issuer.jwk["x"])]
    supervisor = psutil.Process(guarded.gateway.process.pid)
    for process in (supervisor, *supervisor.children(recursive=True)):
        shown = " ".join([*process.cmdline(), *process.environ().values()])
        assert not any(secret in shown for secret in secrets)
    text = "\n".join(guarded.gateway.log)
    assert not any(secret in text for secret in secrets)


def test_on_a_network_without_identities_nobody_changes_the_server(
    gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    add_fake(tmp_path / "repository", "m", inputs=X, outputs=Y)
    running = gateway(tmp_path / "repository", "--grpc", "0.0.0.0:0").wait_ready()
    running.wait_for("anyone who reaches this server may query its models .*, but nobody may change it")
    running.infer("m", {"x": [[1.0, 2.0]]})
    assert running.get("/v2/models/m").status == running.get("/metrics").status == 200
    refused = running.post("/v2/repository/models/m/unload", headers={"Authorization": "Basic dXNlcjpwYXNz"})
    assert (refused.status, refused.json()) == (403, {"error": NO_ADMIN.refusal})
    with grpc.insecure_channel(running.grpc.replace("0.0.0.0", "127.0.0.1")) as channel:
        message = as_message(INFER, raw=True).SerializeToString()
        assert channel.unary_unary(PATH)(message, timeout=60)
        unload = channel.unary_unary(PATH.replace("ModelInfer", "RepositoryModelUnload"))
        call = unload.future(RepositoryModelUnloadRequest(model_name="m").SerializeToString(), timeout=60)
        assert (call.exception() is not None, call.code()) == (True, grpc.StatusCode.PERMISSION_DENIED)
