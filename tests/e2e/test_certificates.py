"""Clients that are known by their certificates, over REST, both gRPC servers and the metrics port."""

import json
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import get_args

import grpc
import pytest

from gateway.access.keys import digest_of, new_key
from gateway.generated import open_inference_pb2 as pb
from gateway.process.address import GrpcServer
from tests.support.certificates import Authority
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake

INFER = "/v2/models/m/infer"
LOAD = "/v2/repository/models/m/load"
BODY = b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}'
SERVICE = "/inference.GRPCInferenceService"
PAGE = {"Origin": "https://app.example"}
WEB = ["CN:web", "DNS:web.example"]


class Certified:
    """A gateway, and its clients: `web` by the name of its subject, `ops` by a URI, `both`, `nobody`, and `odd`."""

    def __init__(self, folder: Path, grpc_server: GrpcServer) -> None:
        self.authority = Authority(folder)
        server, ca = self.authority.server(), str(self.authority.cert)
        self.clients = {
            "web": self.authority.client("web"),
            "ops": self.authority.client("an-operator", "spiffe://example.org/ops", "ops.example"),
            "both": self.authority.client("web", "spiffe://example.org/ops", file="both"),
            "odd": self.authority.client("web", file="odd", dns=b"w\xfcrm.example"),
            "long": self.authority.client("web", *(f"{number:060}.example" for number in range(100)), file="long"),
            "nobody": self.authority.client("CN:web", "web", "spiffe://example.org/ops/", file="nobody"),
        }
        self.grpc_server = grpc_server
        self.connections: list[HTTPSConnection] = []
        self.key = new_key()
        self.file, self.audit = folder / "identities.toml", folder / "audit.jsonl"
        self.write()
        add_fake(folder / "repository", "m")
        flags = ("--tls-cert", str(server.cert), "--tls-key", str(server.key), "--tls-client-ca", ca, "--fronts", "1")
        flags += (
            "--cors-origin",
            PAGE["Origin"],
            "--identities",
            str(self.file),
            "--audit-log",
            str(self.audit),
            "--grpc-server",
            grpc_server,
        )
        self.context = self.authority.client_context(self.clients["nobody"])
        self.gateway: Gateway = start_gateway(folder / "repository", folder, *flags, tls=self.context)

    def write(self, web: list[str] = WEB) -> None:
        partial = self.file.with_suffix(".partial")
        partial.write_text(
            f"""
            [anonymous]
            roles = ["health:*"]
            [identities.web]
            certificate = {json.dumps(web)}
            roles = ["infer:m"]
            [identities.ops]
            certificate = ["URI:spiffe://example.org/ops"]
            roles = ["admin", "metrics"]
            [identities.keyed]
            key_sha256 = ["{digest_of(self.key)}"]
            roles = ["metrics"]
            """
        )
        partial.rename(self.file)

    def connect(self, client: str, port: str = "") -> HTTPSConnection:
        context = self.authority.client_context(self.clients[client])
        self.connections.append(HTTPSConnection(port or self.gateway.http, context=context, timeout=60))
        return self.connections[-1]

    def channel(self, client: str) -> grpc.Channel:
        issued = self.clients[client]
        root, cert, key = (file.read_bytes() for file in (self.authority.cert, *issued))
        credentials = grpc.ssl_channel_credentials(root, key, cert)
        return grpc.secure_channel(self.gateway.grpc, credentials, [("grpc.use_local_subchannel_pool", 1)])


@pytest.fixture(scope="module", params=[kind for kind in get_args(GrpcServer) if kind != "guarded"])
def certified(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Certified]:
    """With TLS, `guarded` is the same as `native`."""
    certified = Certified(tmp_path_factory.mktemp("certificates"), request.param)
    try:
        certified.gateway.wait_ready()
        yield certified
    finally:
        certified.gateway.close()


@pytest.fixture(autouse=True)
def closing(certified: Certified) -> Iterator[None]:
    yield
    for connection in certified.connections:
        connection.close()
    certified.connections.clear()


def ask(connection: HTTPSConnection, method: str, path: str, key: str = "") -> int:
    connection.request(method, path, BODY if method == "POST" else None, {"X-API-Key": key} if key else {})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_the_same_head_of_several_clients(certified: Certified) -> None:
    """Heads are remembered, by the compiled path as well, but never for clients with another certificate."""
    statuses = {"web": 200, "ops": 403, "both": 401, "nobody": 401}
    connections = {name: certified.connect(name) for name in statuses}
    for _ in range(8):
        for name, status in statuses.items():
            assert ask(connections[name], "POST", INFER) == status, name
    assert ask(connections["web"], "POST", LOAD) == 403
    assert ask(connections["ops"], "POST", LOAD) == 200
    assert ask(connections["nobody"], "POST", LOAD) == 401
    assert ask(connections["both"], "GET", "/v2/health/ready") == 401
    assert ask(connections["nobody"], "GET", "/v2/health/ready") == 200


def test_a_key_says_more_than_a_certificate(certified: Certified) -> None:
    for name in ("web", "nobody", "both"):
        connection = certified.connect(name)
        assert ask(connection, "POST", INFER, certified.key) == 403
        assert ask(connection, "GET", "/metrics", certified.key) == 200
        assert ask(connection, "POST", INFER, "wrong" * 10) == 401


def test_a_page_does_not_act_by_the_certificate_of_who_opens_it(certified: Certified) -> None:
    connection = certified.connect("ops")
    for headers, status in ((PAGE, 403), ({}, 200)):
        connection.request("POST", LOAD, b"{}", headers)
        answer = connection.getresponse()
        assert (answer.status, b"web page of another origin" in answer.read()) == (status, status == 403)


def test_the_metrics_port(certified: Certified) -> None:
    for name, status in {"web": 403, "ops": 200, "nobody": 401, "both": 401}.items():
        assert ask(certified.connect(name, certified.gateway.metrics), "GET", "/metrics") == status


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("port", ["http", "metrics"])
def test_a_resumed_session_is_that_of_its_client(certified: Certified, version: ssl.TLSVersion, port: str) -> None:
    for name, status in {"web": 403, "ops": 200, "nobody": 401}.items():
        context = certified.authority.client_context(certified.clients[name])
        context.maximum_version, session = version, None
        for resumed in (False, True, True):
            connection = HTTPSConnection(getattr(certified.gateway, port), timeout=60)
            plain = socket.create_connection((connection.host, connection.port), 60)
            end = connection.sock = context.wrap_socket(plain, server_hostname=connection.host, session=session)
            certified.connections.append(connection)
            assert end.session_reused == resumed
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            assert answer.status == status
            session = end.session  # with TLS 1.3, it has come before the answer
            answer.read()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_over_grpc_is_resumed(certified: Certified, version: ssl.TLSVersion) -> None:
    if certified.grpc_server == "grpcio":
        pytest.skip("grpcio's server resumes no sessions")
    host, _, port = certified.gateway.grpc.partition(":")
    context = certified.authority.client_context(certified.clients["web"])
    context.set_alpn_protocols(["h2"])
    context.maximum_version, session = version, None
    for resumed in (False, True):
        with (
            socket.create_connection((host, int(port)), 60) as plain,
            context.wrap_socket(plain, server_hostname=host, session=session) as end,
        ):
            assert end.session_reused == resumed
            end.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            assert end.recv(9)[3] == 4  # SETTINGS
            session = end.session


def test_grpc(certified: Certified) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    message = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[bytes(16)]).SerializeToString()
    load = pb.RepositoryModelLoadRequest(model_name="m").SerializeToString()
    ok, denied = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
    unknown = grpc.StatusCode.UNAUTHENTICATED
    for name, (infers, loads) in {
        "web": (ok, denied), "ops": (denied, ok), "nobody": (unknown, unknown), "both": (unknown, unknown)
    }.items():  # fmt: skip
        with certified.channel(name) as channel:
            for _ in range(4):
                assert channel.unary_unary(f"{SERVICE}/ModelInfer").future(message, timeout=60).code() is infers, name
            assert channel.unary_unary(f"{SERVICE}/RepositoryModelLoad").future(load, timeout=60).code() is loads
            (answer,) = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")(iter([message]), timeout=60)
            error = pb.ModelStreamInferResponse.FromString(answer).error_message
            assert (error == "") == (infers is ok)


@pytest.mark.parametrize("client", ["odd", "long"])
def test_a_certificate_with_names_that_cannot_be_read_is_refused_with_a_sentence(
    certified: Certified, client: str
) -> None:
    said = "the client certificate has names that are not valid, or too many of them"
    for port, method, path in (("", "POST", INFER), ("", "GET", "/v2"), (certified.gateway.metrics, "GET", "/metrics")):
        connection = certified.connect(client, port)
        connection.request(method, path, BODY if method == "POST" else None)
        answer = connection.getresponse()
        assert (answer.status, said in json.loads(answer.read())["error"]) == (401, True)
    with certified.channel(client) as channel:
        for method in ("ModelInfer", "ServerMetadata"):
            call = channel.unary_unary(f"{SERVICE}/{method}").future(b"", timeout=60)
            assert call.code() is grpc.StatusCode.UNAUTHENTICATED
            assert said in call.details()
    assert ask(certified.connect(client), "GET", "/metrics", certified.key) == 200
    assert not any("Traceback" in line for line in certified.gateway.log)


def test_the_audit_log_and_metrics_name_the_client(certified: Certified) -> None:
    assert ask(certified.connect("ops"), "POST", "/v2/repository/models/nosuch/unload") == 404
    line = '"identity": "ops", "peer": "127.0.0.1:'
    while not any(line in each and "nosuch" in each for each in certified.audit.read_text().splitlines()):
        pass  # fronts send what is recorded ten times a second
    connection = certified.connect("ops")
    while True:  # they send metrics every second
        connection.request("GET", "/metrics")
        if b'modelport_identity_requests_total{identity="web"}' in connection.getresponse().read():
            return


def test_a_certificate_is_withdrawn_and_added_on_open_connections(certified: Certified) -> None:
    web, nobody = certified.connect("web"), certified.connect("nobody")
    assert [ask(each, "POST", INFER) for each in (web, nobody)] == [200, 401]
    certified.write(["URI:spiffe://example.org/ops/"])
    while ask(web, "POST", INFER) != 401:
        pass
    while ask(nobody, "POST", INFER) != 200:
        pass
    certified.write()
    while ask(web, "POST", INFER) != 200:
        pass
    while ask(nobody, "POST", INFER) != 401:
        pass
