"""TLS files: what is wrong with them, and how renewed ones are taken up."""

import asyncio
import errno
import logging
import os
import shutil
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.process.tls import Pem, Renewals, ServerTls, TlsError, TlsFiles
from tests.support.certificates import Authority, Issued, encrypt


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(server: Issued, client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles(str(server.cert), str(server.key), None if client_ca is None else str(client_ca))


def connect(server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    """Return the client's end of a connection. Raises SSLError if either end refuses the other."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = client.wrap_bio(back, there, server_hostname="localhost", session=session)
    peer = server.wrap_bio(there, back, server_side=True)
    # With TLS 1.3, what the server thinks of the client's certificate arrives after the client's handshake.
    for step in (*[end.do_handshake, peer.do_handshake] * 2, end.do_handshake, lambda: end.read(1)):
        with suppress(ssl.SSLWantReadError):
            step()
    return end


def common_name(end: ssl.SSLObject) -> str:
    certificate = end.getpeercert()
    assert certificate is not None
    subject: Any = certificate["subject"]
    return str(subject[0][0][1])


def wrong_files(authority: Authority, server: Issued, case: str) -> TlsFiles:
    other = authority.server("other")
    if case == "other key":
        return files(Issued(server.cert, other.key))
    if case == "other kind of key":
        return files(Issued(server.cert, Authority(server.cert.parent, "rsa", 2048).server("rsa server").key))
    if case == "weak":
        return files(Authority(server.cert.parent, "weak", 1024).server("weak server"))
    if case == "encrypted":
        encrypt(server.key)
    elif case == "broken key":
        server.key.write_bytes(server.key.read_bytes().replace(b"M", b"N"))
    elif case == "broken certificate":
        server.cert.write_bytes(server.cert.read_bytes()[:200])
    elif case == "empty certificate":
        server.cert.write_bytes(b"")
    elif case == "empty CA":
        other.cert.write_bytes(b"")
        return files(server, other.cert)
    elif case == "no CA":
        return files(server, server.key)
    elif case == "missing key":
        server.key.unlink()
    elif case == "folder":
        return files(Issued(server.cert.parent, server.key))
    return files(server)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("other key", "tls_key: the key does not belong to the certificate in tls_cert"),
        ("other kind of key", "tls_key: the key does not belong to the certificate in tls_cert"),
        ("weak", "tls_cert: OpenSSL refuses the certificate as too weak"),
        ("encrypted", "tls_key: the key is encrypted; store it decrypted"),
        ("broken key", "tls_key: the file contains no valid private key in PEM format"),
        ("broken certificate", "tls_cert: the file contains no valid certificate in PEM format"),
        ("empty certificate", "tls_cert: the file contains no valid certificate in PEM format"),
        ("empty CA", "tls_client_ca: the file contains no valid certificate in PEM format"),
        ("no CA", "tls_client_ca: the file contains no valid certificate in PEM format"),
        ("missing key", "server.key' cannot be read: No such file or directory"),
        ("folder", "cannot be read: Is a directory"),
    ],
)
def test_wrong_files(authority: Authority, case: str, message: str) -> None:
    wrong = wrong_files(authority, authority.server(), case)
    with pytest.raises(TlsError) as caught:
        ServerTls(wrong.read())
    assert message in str(caught.value)


def test_one_file_may_contain_both(authority: Authority) -> None:
    server = authority.server()
    server.key.write_bytes("# Schlüssel\n".encode("latin-1") + server.cert.read_bytes() + server.key.read_bytes())
    tls = ServerTls(files(Issued(server.key, server.key)).read())
    assert common_name(connect(tls.context(), authority.client_context())) == "server"


def test_protocols_of_a_context(authority: Authority) -> None:
    tls = ServerTls(files(authority.server()).read())
    client = authority.client_context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    for protocol in ("h2", "http/1.1"):
        end = connect(tls.context(protocol), client)
        assert (end.selected_alpn_protocol(), end.version()) == (protocol, "TLSv1.3")
    old = authority.client_context()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        connect(tls.context(), old)


def test_a_context_uses_the_newest_certificate(authority: Authority) -> None:
    tls = ServerTls(files(authority.server("first")).read())
    context, client = tls.context("h2"), authority.client_context()
    assert common_name(connect(context, client)) == "first"
    tls.renew(files(authority.server("second")).read())
    assert common_name(connect(context, client)) == "second"
    with pytest.raises(TlsError):
        tls.renew(Pem("", ""))
    assert common_name(connect(context, client)) == "second"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_removed_client_ca_is_not_accepted(tmp_path: Path, authority: Authority, version: ssl.TLSVersion) -> None:
    server, removed = authority.server(), Authority(tmp_path, "removed")
    both = tmp_path / "both.pem"
    both.write_bytes(authority.cert.read_bytes() + removed.cert.read_bytes())
    tls = ServerTls(files(server, both).read())
    context = tls.context()
    client = authority.client_context(removed.client())
    client.maximum_version = version
    first = connect(context, client)
    assert connect(context, client, first.session).session_reused  # so that a ticket is a way in, which must close
    tls.renew(files(server, authority.cert).read())
    for session in (first.session, None):
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            connect(context, client, session)
    with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE"):
        connect(context, authority.client_context())
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_CERTIFICATE"):
        connect(context, authority.client_context(authority.server("another server")))
    connect(context, authority.client_context(authority.client()))


class Watched:
    """Files of a running server, as they are checked one time after another."""

    def __init__(self, paths: TlsFiles) -> None:
        pem = paths.read()
        self.tls = ServerTls(pem)
        self.renewals = Renewals(paths, pem, self.tls.renew, logging.getLogger("gateway"))

    def check(self, times: int = 2) -> None:
        for _ in range(times):
            asyncio.run(self.renewals.check())


def test_a_key_and_its_certificate_may_change_one_after_the_other(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    server, new = authority.server(), authority.server("new")
    watched = Watched(files(server))
    context, client = watched.tls.context(), authority.client_context()
    shutil.copy(new.cert, server.cert)
    assert watched.renewals.succeeds
    watched.check(4)
    assert not watched.renewals.succeeds
    assert common_name(connect(context, client)) == "server"
    assert caplog.messages == [
        "the TLS files have changed, but the earlier ones stay in use: "
        "tls_key: the key does not belong to the certificate in tls_cert"
    ]
    shutil.copy(new.key, server.key)
    watched.check(3)
    assert watched.renewals.succeeds
    assert common_name(connect(context, client)) == "new"
    assert caplog.messages[1:] == ["the TLS certificate was renewed; new connections use it"]


def test_files_that_cannot_be_used_are_reported_once(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")
    server = authority.server()
    watched = Watched(files(server))
    content = server.key.read_bytes()
    for _ in range(2):
        encrypt(server.key)
        watched.check(3)
        server.key.unlink()
        watched.check(3)
        server.key.write_bytes(content)
        watched.check()
    reasons = ["the key is encrypted", "cannot be read: No such file"] * 2
    assert len(caplog.messages) == 4
    assert all(reason in message for reason, message in zip(reasons, caplog.messages, strict=True))


def test_a_renewal_is_repeated_that_the_system_prevented(
    authority: Authority, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = authority.server()
    watched = Watched(files(server))
    context, client = watched.tls.context(), authority.client_context()
    for file, renewed in zip(server, authority.server("new"), strict=True):
        shutil.copy(renewed, file)

    def no_file(*_: Any, **options: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "memfd_create", no_file, raising=False)
        patch.setattr(tempfile, "TemporaryFile", no_file)
        watched.check(3)
    assert caplog.messages == [
        "the TLS files have changed, but the earlier ones stay in use: "
        "tls_cert: the certificate and its key cannot be loaded: Too many open files"
    ]
    assert common_name(connect(context, client)) == "server"
    watched.check(1)
    assert common_name(connect(context, client)) == "new"


def test_files_that_are_being_written_are_not_used(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    first, second = authority.server(), Authority(authority.cert.parent, "second")
    watched = Watched(files(first, authority.cert))
    context = watched.tls.context()
    client = authority.client_context(authority.client())
    whole = authority.cert.read_bytes() + second.cert.read_bytes()
    authority.cert.write_bytes(second.cert.read_bytes())
    watched.check(1)
    authority.cert.write_bytes(whole)
    watched.check(1)
    connect(context, client)  # was never refused
    watched.check(1)
    connect(context, client)
    assert watched.tls.pem.client_ca == whole.decode()


def test_a_mounted_secret_whose_folder_is_swapped(tmp_path: Path, authority: Authority) -> None:
    """Kubernetes mounts a secret as links through ..data, a link that it replaces."""
    for name in ("one", "two"):
        folder = tmp_path / f"..{name}"
        folder.mkdir()
        for file, target in zip(authority.server(name), ("tls.crt", "tls.key"), strict=True):
            shutil.copy(file, folder / target)
    data = tmp_path / "..data"
    data.symlink_to("..one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    watched = Watched(files(Issued(tmp_path / "tls.crt", tmp_path / "tls.key")))
    context, client = watched.tls.context(), authority.client_context()
    assert common_name(connect(context, client)) == "one"
    (tmp_path / "..swap").symlink_to("..two")
    (tmp_path / "..swap").rename(data)
    watched.check()
    assert common_name(connect(context, client)) == "two"
