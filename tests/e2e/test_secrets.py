"""Keys, tokens and passwords that clients send, and the server's own, are nowhere to be found afterwards.

Everything is on: TLS, keys in a file and in a folder, tokens, an audit log, two gRPC servers. Good and bad credentials
are sent to every port, also in places where they do not belong.
"""

import base64
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from gateway.access.keys import digest_of, new_key
from gateway.generated import open_inference_pb2 as pb
from gateway.process.address import GrpcServer
from tests.support.certificates import Authority
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake
from tests.support.tokens import AUDIENCE, ISSUER, Issuer, key_set
from tests.support.v2_calls import Call, Value, as_json, as_message

WAIT_S = 60
INFER = Call("m", (Value("x", "FP32", (1, 4), [1.0, 2.0, 3.0, 4.0]),))
# One request for each dialect and each kind of route.
REQUESTS = (
    ("POST", INFER.path, as_json(INFER)),
    ("POST", "/predict/m", b'{"inputs": [[1, 2, 3, 4]]}'),
    ("POST", "/predict", b'{"model": "m", "inputs": [[1, 2, 3, 4]]}'),
    ("POST", "/v1/models/m:predict", b'{"instances": [[1, 2, 3, 4]]}'),
    ("POST", "/predictions/m", b'{"inputs": [[1, 2, 3, 4]]}'),
    ("POST", "/v2/repository/models/m/load", b""),
    ("POST", "/v2/repository/models/nosuch/unload", b""),
    ("GET", "/v2/models/m", None),
    ("GET", "/models/m", None),
    ("GET", "/v2/security", None),
    ("GET", "/metrics", None),
    ("GET", "/no/such/path", None),
)


class Guarded:
    """A gateway with everything, the secrets that are sent to it, and all that it says."""

    def __init__(self, folder: Path, grpc_server: GrpcServer) -> None:
        """The log is text with one gRPC server, and JSON with the other."""
        authority = Authority(folder)
        server = authority.server()
        issuer = Issuer("1")
        self.operator, self.user, wrong = new_key(), new_key(), new_key()
        self.token = issuer.token(roles=["infer", "read"])
        bad_tokens = [issuer.token(exp=1), issuer.token(aud="other"), Issuer("1").token(), self.token[:-4] + "AAAA"]
        password = base64.b64encode(f"ada:{new_key()}".encode()).decode()
        self.accepted = {"operator": self.operator, "user": self.user, "token": self.token}
        self.refused = [wrong, *bad_tokens, "short_" + wrong[:12], wrong * 500]
        self.headers = [{"Authorization": f"Basic {password}"}, {"Authorization": wrong}, {"Cookie": f"key={wrong}"}]
        lines = server.key.read_text().splitlines()[1:-1]
        keys = [self.operator, self.user, wrong]
        self.secrets = [*keys, *map(digest_of, keys), self.token, *bad_tokens, password, *lines]
        self.secrets += [token.rpartition(".")[2] for token in (self.token, *bad_tokens[:3])]  # signatures alone
        self.secrets += [wrong[:12], base64.b64decode(password).decode().partition(":")[2]]
        (folder / "jwks.json").write_bytes(key_set(issuer))
        (folder / "keys").mkdir()
        (folder / "keys" / "user").write_text(self.user)
        (folder / "keys" / "user").chmod(0o600)
        identities = folder / "identities.toml"
        identities.write_text(f"""
            [identities.operator]
            key_sha256 = ["{digest_of(self.operator)}"]
            roles = ["infer", "read", "admin", "metrics"]
            [identities.user]
            roles = ["infer"]
            [keys]
            folder = "{folder / "keys"}"
            [jwt]
            jwks = "{folder / "jwks.json"}"
            issuer = "{ISSUER}"
            audience = "{AUDIENCE}"
        """)
        add_fake(folder / "repository", "m")
        self.audit_log = folder / "audit.jsonl"
        self.context = authority.client_context()
        self.root = authority.cert.read_bytes()
        flags = ["--tls-cert", str(server.cert), "--tls-key", str(server.key), "--identities", str(identities)]
        flags += ["--audit-log", str(self.audit_log), "--grpc-server", grpc_server]
        self.access_log = folder / "access.jsonl"
        flags += ["--access-log", str(self.access_log), "--log", "json" if grpc_server == "grpcio" else "text"]
        self.gateway: Gateway = start_gateway(folder / "repository", folder, *flags, tls=self.context)
        self.said: list[str] = []

    def rest(self, headers: dict[str, str], query: str = "") -> list[int]:
        statuses = []
        with httpx.Client(base_url=f"https://{self.gateway.http}", verify=self.context, timeout=WAIT_S) as http:
            for method, path, body in REQUESTS:
                statuses.append(self._note(http.request(method, path + query, content=body, headers=headers)))
        with httpx.Client(base_url=f"https://{self.gateway.metrics}", verify=self.context, timeout=WAIT_S) as http:
            statuses.append(self._note(http.get("/metrics" + query, headers=headers)))
        return statuses

    def _note(self, answer: httpx.Response) -> int:
        self.said += [answer.text, str(answer.headers)]
        return answer.status_code

    def calls(self, metadata: list[tuple[str, str]]) -> list[str]:
        codes = []
        credentials = grpc.ssl_channel_credentials(self.root)
        with grpc.secure_channel(self.gateway.grpc, credentials) as channel:
            for name, message in (
                ("ModelInfer", as_message(INFER, raw=True)),
                ("ModelMetadata", pb.ModelMetadataRequest(name="m")),
                ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="m")),
            ):
                call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
                try:
                    self.said.append(str(call(message.SerializeToString(), timeout=WAIT_S, metadata=metadata)))
                    codes.append("OK")
                except grpc.RpcError as error:
                    self.said += [error.details(), str(error.trailing_metadata())]
                    codes.append(error.code().name)
        return codes

    def raw(self, address: str, data: bytes) -> None:
        """Send what may not be HTTP, and note the answer."""
        host, port = address.split(":")
        plain = socket.create_connection((host, int(port)), timeout=WAIT_S)
        with plain, self.context.wrap_socket(plain, server_hostname=host) as connection:
            connection.sendall(data)
            self.said.append(connection.recv(1 << 16).decode("latin-1"))

    def traces(self) -> dict[str, str]:
        """Return all places where a secret could be left. Ends the gateway."""
        root = psutil.Process(self.gateway.process.pid)
        processes = [root, *root.children(recursive=True)]
        assert len(processes) >= 3
        found = {f"arguments and environment of {process.name()}": "" for process in processes}
        for process in processes:
            found[f"arguments and environment of {process.name()}"] += f"{process.cmdline()} {process.environ()}"
        assert self.gateway.terminate() == 0
        self.gateway.close()
        return {
            **found,
            "log": "\n".join(self.gateway.log),
            "audit log": self.audit_log.read_text(),
            "access log": self.access_log.read_text(),
            "answers": "\n".join(self.said),
        }


@pytest.fixture
def guarded(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[GrpcServer], Guarded]:
    def start(grpc_server: GrpcServer) -> Guarded:
        made = Guarded(tmp_path, grpc_server)
        request.addfinalizer(made.gateway.close)
        return made

    return start


@pytest.mark.parametrize("grpc_server", ["guarded", "grpcio"])
def test_no_secret_is_left_anywhere(guarded: Callable[[GrpcServer], Guarded], grpc_server: GrpcServer) -> None:
    server = guarded(grpc_server)
    server.gateway.wait_ready()
    for name, secret in server.accepted.items():
        for headers in ({"Authorization": f"Bearer {secret}"}, {"X-API-Key": secret}):
            statuses = server.rest(headers)
            assert statuses[:5] == [200] * 5, name
            assert (statuses[5] == 200) == (name == "operator")
            codes = server.calls([(key.lower(), value) for key, value in headers.items()])
            assert codes[0] == "OK"
            assert (codes[2] == "OK") == (name == "operator")
        # A key in the address is none, and is refused like no key.
        assert set(server.rest({}, f"?api_key={secret}&access_token={secret}")) <= {401, 404}
    wrong = [{"Authorization": f"Bearer {secret}"} for secret in server.refused]
    wrong += [{"X-API-Key": secret} for secret in server.refused[:2]] + server.headers
    for headers in wrong:
        assert set(server.rest(headers)) <= {401, 404, 431}, headers
        assert "OK" not in server.calls([(key.lower(), value[:4000]) for key, value in headers.items()])
    for address in (server.gateway.http, server.gateway.metrics):
        for secret in (server.operator, server.token):
            server.raw(address, b"GET /metrics HTTP/1.1\r\nAuthorization: Bearer %b\r\nno colon %b\r\n\r\n" % (
                (secret.encode(),) * 2
            ))  # fmt: skip
            server.raw(address, b"%b / HTTP/1.1\r\nHost: %b\r\n\r\n" % ((secret.encode(),) * 2))
    traces = server.traces()
    assert '"outcome": "unauthenticated"' in traces["audit log"]
    assert '"outcome":"unauthenticated"' in traces["access log"]
    assert '"identity":"operator"' in traces["access log"]
    assert traces["access log"].count("\n") > 100
    assert '"identity": "operator"' in traces["audit log"]
    left = [(where, secret) for where, text in traces.items() for secret in server.secrets if secret in text]
    assert left == []
    assert "Traceback" not in traces["log"]
