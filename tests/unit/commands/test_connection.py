"""How the commands reach a gateway: certificates, the API key, and what is wrong with them in one sentence."""

import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gateway.cli import main
from gateway.domain.caller import Caller, Event
from gateway.domain.identity import Identity
from gateway.errors import Unauthenticated
from gateway.process.tls import ServerTls, TlsFiles
from tests.support.certificates import Authority
from tests.support.front_server import Serving, in_thread

KEY = "a-secret-key"


class OneKey:
    """Knows one API key."""

    def identify(self, caller: Caller) -> Identity:
        if dict(caller.headers).get("authorization") != f"Bearer {KEY}":
            raise Unauthenticated("this server needs an API key")
        return Identity("the test", {"read": ["*"], "admin": ["*"]})

    def record(self, event: Event) -> None:
        """There is no audit log."""


class Bench:
    """A server with TLS and client certificates, and one without TLS that knows an API key."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        server = self.authority.server(hosts=("localhost",))
        self.client = self.authority.client()
        self.stranger = Authority(folder, "other").client("stranger")
        self.both = folder / "both.pem"
        self.both.write_bytes(self.client.cert.read_bytes() + self.client.key.read_bytes())
        self.tls = ServerTls(TlsFiles(str(server.cert), str(server.key), str(self.authority.cert)).read())
        self.secure: Serving
        self.keyed: Serving


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("tls"))
    context = bench.authority.client_context(bench.client)
    with in_thread(OneKey()) as bench.keyed, in_thread(tls=bench.tls, client_context=context) as bench.secure:
        yield bench


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELPORT_API_KEY", raising=False)


def models(*flags: object) -> int:
    return main(["models", *map(str, flags)])


def test_with_a_client_certificate(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"https://localhost:{bench.secure.port}"
    assert models("--url", url, "--ca", bench.authority.cert, "--cert", bench.both) == 0
    cert, key = bench.client
    assert models("--url", url, "--ca", bench.authority.cert, "--cert", cert, "--key", key) == 0
    assert capsys.readouterr().out.count("doubler") == 2
    predict = ["predict", "doubler", "--input", "[[1, 2, 3]]", "--url", url, "--ca", str(bench.authority.cert)]
    assert main([*predict, "--cert", str(bench.both)]) == 0
    compare = ["compare", "doubler", "doubler", "--url", url, "--ca", str(bench.authority.cert)]
    assert main([*compare, "--cert", str(bench.both)]) == 0


Flags = Callable[[Bench], list[object]]


def secure(host: str = "localhost") -> Flags:
    return lambda bench: ["--url", f"https://{host}:{bench.secure.port}"]


def trusting(*more: Flags, host: str = "localhost") -> Flags:
    def flags(bench: Bench) -> list[object]:
        parts = (secure(host), lambda bench: ["--ca", bench.authority.cert], *more)
        return [flag for part in parts for flag in part(bench)]

    return flags


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (secure(), 1, "certificate in certificate chain); name the CA that issued it with --ca"),
        (trusting(host="127.0.0.1"), 1, "is for another host (IP address mismatch, certificate is not valid for"),
        (trusting(), 1, "requires a client certificate; name one with --cert, and its key with --key"),
        (
            trusting(lambda bench: ["--cert", bench.stranger.cert, "--key", bench.stranger.key]),
            1,
            "does not accept the certificate in ",
        ),
        (trusting(lambda bench: ["--cert", bench.client.cert]), 2, "does not contain a certificate and its key in PEM"),
        (
            trusting(lambda bench: ["--cert", bench.client.cert, "--key", bench.stranger.key]),
            2,
            "stranger.key does not belong to the certificate in ",
        ),
        (trusting(lambda bench: ["--key", bench.client.key]), 2, "needs its certificate; name it with --cert"),
        (trusting(lambda bench: ["--cert", "nowhere.pem"]), 2, "--cert: nowhere.pem cannot be read: No such file"),
        (lambda bench: [*secure()(bench), "--ca", bench.client.key], 2, "contains no certificate in PEM format"),
        (lambda bench: [*secure()(bench), "--ca", "nowhere.pem"], 2, "--ca: nowhere.pem cannot be read: No such file"),
        (
            lambda bench: ["--url", f"http://localhost:{bench.secure.port}"],
            1,
            "without response; if it uses TLS, its URL begins with https://)",
        ),
        (
            lambda bench: ["--url", f"https://localhost:{bench.keyed.port}"],
            1,
            "does not speak TLS; use http://",
        ),
        (
            lambda bench: ["--url", f"http://localhost:{bench.keyed.port}", "--ca", bench.authority.cert],
            2,
            "--ca, --cert and --key need a URL with https://",
        ),
        (lambda bench: ["--url", f"http://localhost:{bench.keyed.port}"], 1, "this server needs an API key"),
    ],
)
def test_what_is_wrong(bench: Bench, flags: Flags, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(*flags(bench)) == code
    said = capsys.readouterr().err
    assert said.startswith("modelport: ")
    assert said.count("\n") == 1
    assert says in said


def test_a_missing_certificate_over_tls_1_2(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create = ssl.create_default_context

    def create_older(*arguments: object, **options: object) -> ssl.SSLContext:
        context = create(*arguments, **options)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    monkeypatch.setattr(ssl, "create_default_context", create_older)
    test_what_is_wrong(bench, trusting(), 1, "requires a client certificate; name one with --cert", capsys)


@pytest.mark.parametrize("source", ["variable", "file"])
def test_the_api_key(
    bench: Bench, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, file = f"http://localhost:{bench.keyed.port}", tmp_path / "key"
    flags = ["--url", url] if source == "variable" else ["--url", url, "--api-key-file", str(file)]

    def give(key: str) -> None:
        if source == "variable":
            monkeypatch.setenv("MODELPORT_API_KEY", key)
        else:
            file.write_text(key)

    give(f"{KEY}\n")
    assert models(*flags) == 0
    assert "doubler" in capsys.readouterr().out
    give("another-key")
    assert models(*flags) == 1
    give("line\nbreak")
    assert models(*flags) == 2
    said = capsys.readouterr().err
    assert "is not an API key: it contains other characters than a header may have" in said
    assert "another-key" not in said
    assert "break" not in said


def test_files_without_an_api_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff")
    for name, says in (("empty", "is empty"), ("binary", "is not an API key"), ("missing", "cannot be read: No such")):
        assert models("--api-key-file", tmp_path / name) == 2
        assert says in capsys.readouterr().err


class Redirect(BaseHTTPRequestHandler):
    """Sends clients to another server, and keeps what they sent there."""

    keys: list[str | None]

    def do_GET(self) -> None:
        self.keys.append(self.headers["Authorization"])
        self.send_response(302 if self.path.startswith("/v2") else 404)
        self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


def test_a_redirect_does_not_get_the_api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELPORT_API_KEY", KEY)
    Redirect.keys = []
    with HTTPServer(("127.0.0.1", 0), Redirect) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert main(["predict", "m", "--input", "1", "--url", f"http://127.0.0.1:{server.server_port}"]) == 1
        server.shutdown()
    assert Redirect.keys == [f"Bearer {KEY}", None]


def test_the_api_key_is_no_flag() -> None:
    for command in (["models"], ["predict", "m", "--input", "1"], ["compare", "a", "b"]):
        with pytest.raises(SystemExit):
            main([*command, "--api-key", KEY])


def test_health(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELPORT_HTTP", f"0.0.0.0:{bench.secure.port}")
    assert main(["health"]) == 1
    assert f"the gateway at 127.0.0.1:{bench.secure.port} is not healthy: " in capsys.readouterr().err
    (tmp_path / "modelport.toml").write_text(f'tls_cert = "x"\nhttp = "127.0.0.1:{bench.keyed.port}"')
    assert main(["health"]) == 0  # the gateway asks for a certificate, so it is live
    assert main(["health", "--ready"]) == 1
    assert main(["health", "--ready", "--cert", str(bench.both)]) == 0
    assert main(["health", "--cert", "nowhere.pem"]) == 1
    monkeypatch.delenv("MODELPORT_HTTP")
    (tmp_path / "modelport.toml").write_text(f'http = "127.0.0.1:{bench.keyed.port}"')
    capsys.readouterr()
    assert main(["health"]) == 1
    assert "/v2/health/live returned 401" in capsys.readouterr().err
