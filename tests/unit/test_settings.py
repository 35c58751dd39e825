"""Settings: flags override environment variables, which override modelport.toml. Also the commands' errors."""

import io
import json
import socket
import sys
import tempfile
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import OpenerDirector, ProxyHandler

import pytest

from gateway.cli import main
from gateway.commands.connection import Connection
from gateway.commands.console import table
from gateway.config import Settings, SettingsError, Sources, parse_address, read_settings
from gateway.engine.admission import AdmissionLimits
from gateway.front.base.limits import Limits
from gateway.lifecycle.options import ManagerOptions
from gateway.lifecycle.starter import StarterOptions
from gateway.process.address import Address
from gateway.supervisor.ports import listen


def sources(folder: Path, toml: str = "", environment: dict[str, str] | None = None, **flags: object) -> Sources:
    if toml:
        (folder / "modelport.toml").write_text(toml)
    return Sources(flags, environment or {}, folder)


def test_sources_override_each_other(tmp_path: Path) -> None:
    toml = 'fronts = 2\npoll_s = 7\nhttp = "0.0.0.0:1"'
    settings = read_settings(sources(tmp_path, toml, {"MODELPORT_FRONTS": "3", "MODELPORT_POLL_S": "8"}, fronts=4))
    assert (settings.fronts, settings.poll_s, settings.http, settings.grpc) == (4, 8.0, "0.0.0.0:1", "127.0.0.1:8001")


def test_a_runtime_can_use_a_given_interpreter(tmp_path: Path) -> None:
    settings = read_settings(sources(tmp_path, '[runtimes.torchscript]\npython = "/usr/local/torch/bin/python"'))
    assert settings.runtimes["torchscript"].python == Path("/usr/local/torch/bin/python")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"toml": "front = 2"}, "modelport.toml: there is no key 'front'; the keys are"),
        ({"toml": "fronts ="}, "modelport.toml is not TOML"),
        ({"environment": {"MODELPORT_FRONTS": "x"}}, "MODELPORT_FRONTS: 'fronts' is 'x', but"),
        ({"fronts": "0"}, "--fronts: 'fronts' is '0', but input should be greater than or equal to 1"),
        ({"load_model": "m"}, "--load-model: models to load need explicit control, but repository_control is 'poll'"),
        ({"grpc_max_connection_age_s": "60"}, "--grpc-max-connection-age-s: the native gRPC server cannot close"),
        ({"grpc_max_connection_age_s": "60"}, "add --grpc-server grpcio"),
        ({"grpc_keepalive_s": "nan"}, "--grpc-keepalive-s: 'grpc_keepalive_s' is 'nan', but"),
        ({"allowed_hosts": "a.example, http://b"}, "--allowed-hosts: 'http://b' is not a host name"),
        ({"cors_origin": "https://a.example, b.example"}, "--cors-origin: 'b.example' is not an origin as browsers"),
        ({"cors_origin": "https://a.example/"}, "--cors-origin: 'https://a.example/' is not an origin as browsers"),
        ({"cors_origin": "https://A.example"}, "--cors-origin: 'https://A.example' is not an origin as browsers"),
        ({"cors_origin": "https://a.example:443"}, "--cors-origin: 'https://a.example:443' is not an origin"),
        ({"cors_origin": "null"}, "--cors-origin: 'null' is not an origin as browsers"),
        ({"allowed_hosts": "*"}, "--allowed-hosts: '*' is not a host name; use names such as models.example.com"),
        ({"tls_cert": "c.pem"}, "--tls-cert: TLS also needs tls_key; set it to the path of a PEM file"),
        ({"environment": {"MODELPORT_TLS_KEY": "k"}}, "MODELPORT_TLS_KEY: TLS also needs tls_cert; set it"),
        ({"toml": 'tls_client_ca = "ca"'}, "modelport.toml: TLS also needs tls_cert; set it"),
        ({"http": "8000"}, "--http: '8000' is not an address; use HOST:PORT"),
        ({"http": "127.0.0.1:²"}, "is not an address; use HOST:PORT"),
        ({"http": "127.0.0.1:" + "1" * 5000}, "is not an address; use HOST:PORT"),
    ],
)
def test_errors_name_the_source_of_a_setting(tmp_path: Path, given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(sources(tmp_path, **given))  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "modelport.toml"
    file.write_bytes('http = "é:1"'.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"modelport\.toml is not TOML: it is not UTF-8"):
        read_settings(sources(tmp_path))
    file.unlink()
    file.mkdir()
    with pytest.raises(SettingsError, match=r"modelport\.toml cannot be read: Is a directory"):
        read_settings(sources(tmp_path))


@pytest.mark.parametrize("by_file", [True, False])
def test_serve_refuses_a_python_for_an_unknown_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by_file: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if by_file:
        (tmp_path / "modelport.toml").write_text('[runtimes.nosuch]\npython = "python3"')
    arguments = ["serve", "norepository"] + ([] if by_file else ["--python", f"nosuch={sys.executable}"])
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("modelport: there is no runtime 'nosuch' that could use a Python; there are ")
    assert " mxnet, onnx, " in said


@pytest.mark.parametrize("url", ["foo", "", "http://127.0.0.1:x", "data:application/json,{}", "https://"])
def test_models_wants_an_address(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--url", url]) == 2
    assert capsys.readouterr().err == f"modelport: --url is {url}: expected an address such as http://127.0.0.1:8000\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://a b"])
def test_models_reports_that_no_gateway_answers(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--url", url]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"modelport: no gateway answers at {url} (")
    assert said.count("\n") == 1


class _Answer(io.BytesIO):
    headers = Message()


@pytest.mark.parametrize("answer", ['{"error": "no"}', "[1]", "[{}]", "1", "null", "no JSON"])
def test_models_reports_that_something_else_answers(
    answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(OpenerDirector, "open", lambda opener, request, timeout: _Answer(answer.encode()))
    assert main(["models"]) == 1
    assert "the server at http://127.0.0.1:8000 is not modelport" in capsys.readouterr().err


def test_models_shows_no_empty_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    index = [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
    monkeypatch.setattr(OpenerDirector, "open", lambda opener, request, timeout: _Answer(json.dumps(index).encode()))
    assert main(["models"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["MODEL", "VERSION", "STATE"],
        ["m", "1", "ready"],
    ]
    assert [column.header for column in table([]).columns][:4] == ["MODEL", "VERSION", "RUNTIME", "STATE"]


def test_help_shows_no_empty_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "in place of a repository" in text
    assert "(default )" not in text


def test_addresses() -> None:
    assert parse_address("[::1]:80") == Address("::1", 80)
    assert str(Address("::1", 80)) == "[::1]:80"


def _no_temporary_files() -> str:
    raise FileNotFoundError("no usable temporary directory found in ['/tmp']")


def _no_home() -> Path:
    raise RuntimeError("could not determine home directory")


def _runs_full(prefix: str, dir: Path) -> str:
    raise OSError(28, "No space left on device", f"{dir}/{prefix}x")


def _folder_for_toml(patch: pytest.MonkeyPatch) -> None:
    Path("modelport.toml").mkdir()


@pytest.mark.parametrize(
    ("arguments", "prepare", "says"),
    [
        (["x" * 300], lambda patch: None, "File name too long"),
        (["--http", "x" * 70 + ":1"], lambda patch: None, "is not known: it is not a host name"),
        ([], lambda patch: patch.setattr(tempfile, "gettempdir", _no_temporary_files), "mount a writable /tmp"),
        ([], lambda patch: patch.setattr(tempfile, "mkdtemp", _runs_full), "x: No space left on device"),
        ([], lambda patch: patch.setattr(Path, "home", _no_home), "set MODELPORT_HOME to a folder for environments"),
        ([], _folder_for_toml, "modelport.toml cannot be read: Is a directory"),
        (["--python", "onnx=" + "x" * 300], lambda patch: None, "use RUNTIME=PATH"),
        (
            ["--tls-cert", "no.pem", "--tls-key", "k"],
            lambda patch: None,
            "tls_cert: the file 'no.pem' cannot be read: ",
        ),
        (["--audit-log", "nosuch/audit"], lambda patch: None, "nosuch/audit cannot be written: No such file"),
    ],
)
def test_a_start_that_fails_ends_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    prepare: Callable[[pytest.MonkeyPatch], None],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MODELPORT_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    prepare(monkeypatch)
    ports = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", ""]
    repository = [] if arguments and not arguments[0].startswith("-") else [str(tmp_path)]
    assert main(["serve", *repository, *ports, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("modelport: ")
    assert said.count("\n") == 1
    assert says in said


class _Index(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_used_for_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with HTTPServer(("127.0.0.1", 0), _Index) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert main(["models", "--url", f"http://{host}:{server.server_port}"]) == 0
        server.shutdown()


@pytest.mark.parametrize(
    ("url", "is_asked"),
    [
        ("http://127.0.0.1:8000", False),
        ("http://127.5.0.1", False),
        ("http://[::1]:8000/x", False),
        ("http://LOCALHOST:8000", False),
        ("http://models.localhost", False),
        ("http://models.example", True),
        ("http://10.0.0.1:8000", True),
        ("http://127.0.0.1.example", True),
    ],
)
def test_a_proxy_is_used_for_other_machines(url: str, is_asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    handlers = Connection(url).opener().handlers  # type: ignore[attr-defined]  # urllib documents neither attribute
    proxies = [each.proxies for each in handlers if isinstance(each, ProxyHandler)]  # type: ignore[attr-defined]
    assert any("http" in each for each in proxies) is is_asked


def test_listening_sockets_enable_tcp_keepalive() -> None:
    with (
        listen(Address("127.0.0.1", 0), "http") as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


def test_defaults_without_settings_equal_those_of_settings() -> None:
    settings, limits, admission_limits = Settings(), Limits(), AdmissionLimits()
    workers = StarterOptions(run_dir=Path())
    manager = ManagerOptions(Path(), workers)
    assert limits == Limits(
        settings.max_json_bytes,
        settings.max_body_bytes,
        settings.max_response_bytes,
        settings.header_timeout_s,
        settings.min_body_rate,
    )
    assert admission_limits == AdmissionLimits(
        settings.max_requests, settings.max_admitted_bytes, settings.request_timeout_s
    )
    assert (workers.max_response_bytes, manager.poll_s) == (settings.max_response_bytes, settings.poll_s)
    assert (manager.grace_s, workers.audit_share) == (settings.grace_s, settings.audit_share)


def test_platforms_configure_by_their_own_variables(tmp_path: Path) -> None:
    def read(flags: dict[str, str] | None = None, **environment: str) -> Settings:
        return read_settings(Sources(flags or {}, environment, tmp_path))

    vertex = {"AIP_HTTP_PORT": "8085", "AIP_PREDICT_ROUTE": "/v1/endpoints/7:predict", "AIP_HEALTH_ROUTE": "/health"}
    settings = read(**vertex)
    assert (settings.http, settings.predict_route) == ("0.0.0.0:8085", "/v1/endpoints/7:predict")
    assert settings.health_route == "/health"
    assert read(SAGEMAKER_BIND_TO_PORT="8081").http == "0.0.0.0:8081"
    assert read(**vertex, MODELPORT_HTTP="127.0.0.1:1").http == "127.0.0.1:1"
    assert read({"http": "127.0.0.1:2"}, **vertex).http == "127.0.0.1:2"
    with pytest.raises(SettingsError, match="AIP_PREDICT_ROUTE: 'predict' is not a path"):
        read(AIP_PREDICT_ROUTE="predict")
    with pytest.raises(SettingsError, match="AIP_HTTP_PORT: "):
        read(AIP_HTTP_PORT="x")


def test_what_a_platform_expects_is_less_than_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "modelport.toml").write_text("http = '127.0.0.1:1'")
    conventions = {"http": "0.0.0.0:8080", "allow_anonymous_admin": True}

    def read(flags: dict[str, str] | None = None, **environment: str) -> Settings:
        return read_settings(Sources(flags or {}, environment, tmp_path, conventions))

    assert (read().http, read().allow_anonymous_admin) == ("0.0.0.0:8080", True)
    assert read(SAGEMAKER_BIND_TO_PORT="9").http == "0.0.0.0:9"
    assert not read(MODELPORT_ALLOW_ANONYMOUS_ADMIN="false").allow_anonymous_admin
    assert read({"http": "127.0.0.1:2"}).http == "127.0.0.1:2"
    assert read(SAGEMAKER_MULTI_MODEL="true").sagemaker_multi_model


@pytest.mark.parametrize("name", ["a/b", "a b", "..\\x"])
def test_the_name_of_a_model_can_be_part_of_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a name for a model"):
        read_settings(Sources({"model_name": name}, {}, tmp_path))
