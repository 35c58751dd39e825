"""TLS with client certificates, as real clients speak it, and certificates that are renewed while requests arrive."""

import os
import platform
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from gateway.cli import main
from tests.support.certificates import Authority, Issued, encrypt
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake
from tests.support.perf_analyzer import measure, perf_analyzer_command

SCRIPT = Path(__file__).parent / "tls_script.py"
GRPC_SCRIPT = Path(__file__).parent / "grpc_tls_script.py"
INFER = "/v2/models/m/infer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


CLIENTS: dict[str, Callable[[], Path]] = {
    "tritonclient": lambda: client_python("tritonclient", "tritonclient[all]==2.73.0"),
    "kserve": lambda: client_python("kserve", "kserve==0.21.0"),
    # As in test_tfserving.py.
    "tfserving": lambda: client_python(
        "tfserving", "tensorflow-cpu==2.21.0", "grpcio==1.85.1", "protobuf==7.36.2",
        alone=("tensorflow-serving-api==2.21.0",),
    ),
}  # fmt: skip


class Secured:
    """A gateway of two fronts that requires client certificates, with its files and a client's."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.server, self.client = self.authority.server(), self.authority.client()
        self.client_ca = folder / "clients.pem"
        shutil.copy(self.authority.cert, self.client_ca)
        self.context = self.authority.client_context(self.client)
        x = [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
        add_fake(folder / "repository", "m", inputs=x, outputs=[{**x[0], "name": "y"}])
        flags = ("--tls-cert", str(self.server.cert), "--tls-key", str(self.server.key), "--fronts", "2")
        self.gateway: Gateway = start_gateway(
            folder / "repository", folder, *flags, "--tls-client-ca", str(self.client_ca), tls=self.context
        )

    @property
    def url(self) -> str:
        return f"https://{self.gateway.http}"

    def connect(self) -> HTTPSConnection:
        return HTTPSConnection(self.gateway.http, context=self.context, timeout=60)

    def channel(self) -> grpc.Channel:
        root, cert, key = (file.read_bytes() for file in (self.authority.cert, *self.client))
        credentials = grpc.ssl_channel_credentials(root, key, cert)
        # Without this option, channels of one process share connections.
        return grpc.secure_channel(self.gateway.grpc, credentials, [("grpc.use_local_subchannel_pool", 1)])

    def renew(self, issued: Issued) -> int:
        """Replace the server's files one after the other. Return the log's length before."""
        since = len(self.gateway.log)
        shutil.copy(issued.cert, self.server.cert)
        shutil.copy(issued.key, self.server.key)
        return since


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("tls"))
    try:
        secured.gateway.wait_ready()
        yield secured
    finally:
        secured.gateway.close()


def test_the_log_names_the_addresses(secured: Secured) -> None:
    secured.gateway.wait_for(r"REST on https://\S+, gRPC on \S+ \(TLS\), metrics on https://\S+/metrics$")


def test_httpx_and_the_compiled_path(secured: Secured) -> None:
    with httpx.Client(base_url=secured.url, verify=secured.context) as http:
        for _ in range(10):  # the usual requests take the compiled path from the third on
            answer = http.post(INFER, json=BODY)
            assert answer.json()["outputs"][0]["data"] == [2, 4]
        x = np.linspace(0, 1, 1 << 20, dtype=np.float32)
        head = (
            b'{"inputs":[{"name":"x","shape":[1,1048576],"datatype":"FP32","parameters":{"binary_data_size":4194304}}],'
        )
        head += b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}'
        for _ in range(3):
            answer = http.post(
                INFER, content=head + x.tobytes(), headers={"Inference-Header-Content-Length": str(len(head))}
            )
            size = int(answer.headers["inference-header-content-length"])
            assert np.array_equal(np.frombuffer(answer.content[size:], np.float32), 2 * x)


def curl(secured: Secured, path: str, *flags: str, port: str = "") -> "subprocess.CompletedProcess[str]":
    command = [
        "curl",
        "-sS",
        "--cacert",
        str(secured.authority.cert),
        *flags,
        f"https://{port or secured.gateway.http}{path}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_curl(secured: Secured) -> None:
    mine = ("--cert", str(secured.client.cert), "--key", str(secured.client.key))
    for version in ("1.2", "1.3"):
        assert curl(secured, "/v2/health/live", *mine, "--tls-max", version).stdout == '{"live":true}'
        refused = curl(secured, "/v2/health/live", "--tls-max", version)
        assert refused.returncode != 0
        assert "alert" in refused.stderr
    assert curl(secured, "/v2/health/live", *mine, "--http2").stdout == '{"live":true}'  # gets HTTP/1.1 by ALPN
    assert "alert protocol version" in curl(secured, "/v2", *mine, "--tls-max", "1.1").stderr
    scraped = curl(secured, "/metrics", *mine, port=secured.gateway.metrics)
    assert "modelport_" in scraped.stdout
    assert curl(secured, "/metrics", port=secured.gateway.metrics).returncode != 0
    plain = subprocess.run(
        ["curl", "-sS", f"http://{secured.gateway.http}/v2"], capture_output=True, text=True, check=False
    )
    assert "Empty reply" in plain.stderr


@pytest.mark.parametrize(
    ("client", "requirement"), [("tritonclient", "tritonclient[all]==2.73.0"), ("kserve", "kserve==0.21.0")]
)
def test_clients_of_other_servers(secured: Secured, client: str, requirement: str) -> None:
    files = (secured.authority.cert, *secured.client)
    python = client_python(client, requirement)
    assert "all of it worked" in run_client(python, SCRIPT, client, secured.gateway.http, *map(str, files))


@pytest.mark.parametrize("client", ["tritonclient", "kserve", "tfserving"])
def test_grpc_clients_of_other_servers(secured: Secured, client: str) -> None:
    python = CLIENTS[client]()
    files = (secured.authority.cert, *secured.client)
    assert "all of it worked" in run_client(python, GRPC_SCRIPT, client, secured.gateway.grpc, *map(str, files))


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="perf_analyzer's wheel is for Linux on x86-64",
)
def test_perf_analyzer(secured: Secured, tmp_path: Path) -> None:
    flags = ["-m", "m", "-u", secured.url, "-i", "http", "--shape", "x:4", "--concurrency-range", "2"]
    flags += ["--measurement-mode", "count_windows", "--measurement-request-count", "50", "-s", "1000", "-r", "3"]
    flags += ["--ssl-https-ca-certificates-file", str(secured.authority.cert)]
    flags += ["--ssl-https-client-certificate-file", str(secured.client.cert)]
    flags += ["--ssl-https-private-key-file", str(secured.client.key)]
    (row,) = measure(perf_analyzer_command(), tmp_path / "report.csv", *flags)
    assert float(row["Inferences/Second"]) > 10


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="perf_analyzer's wheel is for Linux on x86-64",
)
def test_perf_analyzer_by_grpc(secured: Secured, tmp_path: Path) -> None:
    flags = ["-m", "m", "-u", secured.gateway.grpc, "-i", "grpc", "--shape", "x:4", "--concurrency-range", "2"]
    flags += ["--measurement-mode", "count_windows", "--measurement-request-count", "50", "-s", "1000", "-r", "3"]
    flags += ["--ssl-grpc-use-ssl", "--ssl-grpc-root-certifications-file", str(secured.authority.cert)]
    flags += ["--ssl-grpc-certificate-chain-file", str(secured.client.cert)]
    flags += ["--ssl-grpc-private-key-file", str(secured.client.key)]
    (row,) = measure(perf_analyzer_command(), tmp_path / "report.csv", *flags)
    assert float(row["Inferences/Second"]) > 10


def test_the_commands(secured: Secured, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--url", secured.url, "--ca", str(secured.authority.cert), "--cert", str(secured.client.cert)]
    flags += ["--key", str(secured.client.key)]
    assert main(["models", *flags]) == 0
    assert main(["predict", "m", "--input", "[[1, 2]]", *flags]) == 0
    assert main(["compare", "m", "m", *flags, "--shape", "x=1,2"]) == 0
    assert "they match" in capsys.readouterr().out


class Load:
    """Requests on kept connections and on new ones, until the end of the context. None may fail."""

    def __init__(self, secured: Secured) -> None:
        self._secured = secured
        self._stop = Event()
        self.answered = 0
        self.certificates: set[str] = set()
        self._failures: list[BaseException] = []
        self._threads = [Thread(target=run, args=(kept,)) for kept in (True, False) for run in (self._run, self._call)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not self._failures
        assert self.answered > 10

    def _run(self, kept: bool) -> None:
        try:
            connection = self._secured.connect()
            while not self._stop.is_set():
                if not kept:
                    connection = self._secured.connect()
                connection.request("GET", "/v2/models/m/ready")
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
                self.answered += 1
                self.certificates.add(common_name(connection))
                if not kept:
                    connection.close()
            connection.close()
        except BaseException as error:
            self._failures.append(error)

    def _call(self, kept: bool) -> None:
        """The same over gRPC. Its channels connect again by themselves, so the kept one must stay connected."""
        ready = grpc.ChannelConnectivity.READY
        states: list[grpc.ChannelConnectivity] = []
        try:
            channel = self._secured.channel()
            if kept:
                channel.subscribe(states.append)
            while not self._stop.is_set():
                if not kept:
                    channel = self._secured.channel()
                assert channel.unary_unary(LIVE)(b"", timeout=60) == b"\x08\x01"
                self.answered += 1
                if not kept:
                    channel.close()
            if kept:
                assert states[states.index(ready) :] == [ready]
            channel.close()
        except BaseException as error:
            self._failures.append(error)


def common_name(connection: HTTPSConnection) -> str:
    subject: Any = connection.sock.getpeercert()["subject"]
    return str(subject[0][0][1])


def renewed_in_both_fronts(secured: Secured, name: str) -> None:
    """Until the certificate of this name has been seen ten times in a row. Each iteration is a connection."""
    seen = 0
    while seen < 10:
        connection = secured.connect()
        connection.connect()
        seen = seen + 1 if common_name(connection) == name else 0
        connection.close()


def test_renewed_certificates_under_load(secured: Secured, tmp_path: Path) -> None:
    with Load(secured) as load:
        for name in ("second", "third"):
            since = secured.renew(Authority.server(secured.authority, name))
            secured.gateway.wait_for("the TLS certificate was renewed", since)
            renewed_in_both_fronts(secured, name)
    assert {"second", "third"} <= load.certificates


def test_a_restarted_front_does_not_depend_on_broken_files(secured: Secured) -> None:
    good = secured.server.key.read_bytes()
    since = len(secured.gateway.log)
    encrypt(secured.server.key)
    secured.gateway.wait_for("the earlier ones stay in use: tls_key: the key is encrypted", since)
    for pid in secured.gateway.front_pids():
        os.kill(pid, signal.SIGKILL)
    secured.gateway.wait_for(r"front\.[34]: serving", since)
    assert secured.gateway.get("/v2/health/live").status == 200
    secured.server.key.write_bytes(good)


def status(connection: HTTPSConnection) -> int:
    connection.request("GET", "/v2/health/live")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_a_removed_client_ca(secured: Secured, tmp_path: Path) -> None:
    """After the other tests, because their client is refused afterwards."""
    kept = secured.connect()
    assert status(kept) == 200
    session = kept.sock.session
    assert session is not None
    new = Authority(tmp_path, "new")
    since = len(secured.gateway.log)
    shutil.copy(new.cert, secured.client_ca)
    secured.gateway.wait_for("the TLS certificate was renewed", since)
    context = secured.authority.client_context(new.client())
    accepted = 0
    while accepted < 10:  # each iteration is a connection, until both fronts have the new CA
        with closing(HTTPSConnection(secured.gateway.http, context=context, timeout=60)) as connection:
            try:
                accepted = accepted + 1 if status(connection) == 200 else 0
            except ssl.SSLError:
                accepted = 0
    for _ in range(4):
        with closing(secured.connect()) as connection, pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            status(connection)
        with closing(secured.connect()) as resumed:
            resumed.sock = secured.context.wrap_socket(
                socket.create_connection((resumed.host, resumed.port)), server_hostname=resumed.host, session=session
            )
            with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
                status(resumed)
    assert status(kept) == 200  # an established connection stays
    kept.close()
