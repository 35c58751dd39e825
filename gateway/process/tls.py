"""TLS for the gateway's ports. The supervisor reads the files and reads them again when they are renewed; fronts get
their contents from it, so that a front started later never depends on files that are just being written.

A connection keeps the certificate with which it was established; a new one uses the newest. Each renewal creates new
contexts. Changing one would not do: an SSLContext only ever adds CAs, and clients could resume the sessions that they
had while a CA was trusted that has since been removed.
"""

import asyncio
import json
import logging
import os
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

# How often files are read again. A longer interval delays renewals; a shorter one wakes an idle process more often.
_CHECK_S = 1.0
# What OpenSSL calls a handshake that begins with a request of HTTP/1.1 or, among others, of HTTP/2.
_NO_TLS = ("HTTP_REQUEST", "WRONG_VERSION_NUMBER")

# Python's names of the alternative names that count, and ours.
_KINDS = {"URI": "URI", "DNS": "DNS", "email": "email"}
# The most text in the names of a certificate. A call over gRPC carries them in its headers, as JSON in ASCII
# (front/grpc/sender.py), and a server refuses headers of more than 16 KiB.
_MAX_NAMES_LENGTH = 4096
# The only name of a certificate whose names are not valid, or are too long. No other one is like it.
UNREADABLE = "unreadable"
_UNREADABLE_CERTIFICATE = {UNREADABLE: True}


class TlsError(Exception):
    """A certificate or key cannot be used. The message is one sentence that names the setting."""


class Pem(NamedTuple):
    """What a server needs, in PEM format. client_ca: None if clients need no certificate."""

    cert: str
    key: str
    client_ca: str | None = None


class TlsFiles(NamedTuple):
    """The paths of Pem's parts."""

    cert: str
    key: str
    client_ca: str | None = None

    def read(self) -> Pem:
        """Raises TlsError."""
        return Pem(
            _read("tls_cert", self.cert),
            _read("tls_key", self.key),
            None if self.client_ca is None else _read("tls_client_ca", self.client_ca),
        )


class Renewals:
    """Notices that files have been renewed. Calls `renew`, which may raise TlsError, with their new contents.

    What prevents a renewal is logged once.
    """

    def __init__(self, files: TlsFiles, current: Pem, renew: Callable[[Pem], None], log: logging.Logger) -> None:
        self._files, self._renew, self._log = files, renew, log
        self._current = self._previous = current
        self._complaint = ""

    @property
    def succeeds(self) -> bool:
        """Whether what the files have now is in use, or will be."""
        return not self._complaint

    async def run(self) -> None:
        """Check the files until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_S)
            await self.check()

    async def check(self) -> None:
        try:
            pem = await asyncio.to_thread(self._files.read)  # the files may be on a network
            # Files that differ from one check to the next are still being written.
            if pem != self._current and pem == self._previous:
                self._renew(pem)
                self._current = pem
                self._log.info("the TLS certificate was renewed; new connections use it")
            self._previous = pem
            if pem == self._current:
                self._complaint = ""
        except TlsError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._log.warning("the TLS files have changed, but the earlier ones stay in use: %s", error)


class ServerTls:
    """The server's side of TLS. `pem` is in use, for libraries that have contexts of their own."""

    def __init__(self, pem: Pem) -> None:
        """Raises TlsError."""
        self._contexts: list[_RenewableContext] = []
        self.renew(pem)

    def context(self, *protocols: str) -> ssl.SSLContext:
        """Return a context that offers these ALPN protocols. Each of its connections uses what is newest."""
        context = _RenewableContext(protocols)
        context.newest = _build(self.pem, protocols)
        self._contexts.append(context)
        return context

    def renew(self, pem: Pem) -> None:
        """Use `pem` for new connections. Raises TlsError and changes nothing if it is invalid."""
        newest = [_build(pem, context.protocols) for context in self._contexts] or [_build(pem, ())]
        for context, built in zip(self._contexts, newest, strict=False):
            context.newest = built
        self.pem = pem


class _RenewableContext(ssl.SSLContext):
    """asyncio, uvloop and the ssl module create connections by `wrap_bio` or `wrap_socket` alone."""

    newest: ssl.SSLContext
    protocols: tuple[str, ...]

    def __new__(cls, protocols: tuple[str, ...]) -> "_RenewableContext":
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context.protocols = protocols
        return context

    def wrap_bio(self, incoming: ssl.MemoryBIO, *arguments: Any, **options: Any) -> ssl.SSLObject:
        connection = self.newest.wrap_bio(incoming, *arguments, **options)
        assert isinstance(connection, _ServerObject)
        connection.incoming = incoming
        return connection

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return self.newest.wrap_socket(*arguments, **options)


def _readable(certificate: Callable[[], Any]) -> Any:
    """Return a client certificate. The ssl module raises if the bytes of a name are not text."""
    try:
        return certificate()
    except (ValueError, ssl.SSLError):
        return _UNREADABLE_CERTIFICATE


class _ServerSocket(ssl.SSLSocket):
    def getpeercert(self, binary_form: bool = False) -> Any:
        return _readable(lambda: super(_ServerSocket, self).getpeercert(binary_form))


class _ServerObject(ssl.SSLObject):
    """Ends connections in the way that the transports of asyncio and uvloop do not."""

    incoming: ssl.MemoryBIO
    _failed = False

    def getpeercert(self, binary_form: bool = False) -> Any:
        return _readable(lambda: super(_ServerObject, self).getpeercert(binary_form))

    def do_handshake(self) -> None:
        """Report a failure as waiting: then the transport sends the alert that tells the client the reason.

        The client closes the connection in response; if it does not, the timeout of the handshake does. What it sends
        until then is ignored, because closing a socket that has unread bytes may keep the alert from the client.
        """
        if not self._failed:
            try:
                super().do_handshake()
                return
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                if error.reason in _NO_TLS:  # a client without TLS, which would not understand an alert
                    raise
                self._failed = True
        self.incoming.read()
        raise ssl.SSLWantReadError

    def unwrap(self) -> None:
        """Do not wait for the client's close_notify (RFC 8446, section 6.1): an idle client does not send it."""
        with suppress(ssl.SSLWantReadError):
            super().unwrap()


def certificate_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the names in a client certificate, as `getpeercert` describes it, such as "CN:web" or "URI:spiffe://a/b".

    They are the common names of its subject, and its alternative names that are URIs, DNS names or mail addresses; or
    UNREADABLE alone.
    """
    if not certificate:
        return ()
    if UNREADABLE in certificate:
        return (UNREADABLE,)
    common = [value for names in certificate.get("subject", ()) for key, value in names if key == "commonName"]
    others = [f"{_KINDS[kind]}:{value}" for kind, value in certificate.get("subjectAltName", ()) if kind in _KINDS]
    if not all(name.isascii() for name in others):  # RFC 5280, section 4.2.1.6; the ssl module does not check it
        return (UNREADABLE,)
    return readable_names([*[f"CN:{name}" for name in common], *others])


def readable_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, or UNREADABLE alone if they are too long."""
    return (UNREADABLE,) if len(json.dumps(names)) > _MAX_NAMES_LENGTH else tuple(names)


def _build(pem: Pem, protocols: tuple[str, ...]) -> ssl.SSLContext:
    """Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A client that resumes a session gets the next ticket then. OpenSSL makes two, each for 5 % of a handshake's time.
    context.num_tickets = 1
    context.sslobject_class, context.sslsocket_class = _ServerObject, _ServerSocket
    if protocols:
        context.set_alpn_protocols(protocols)
    _trust("tls_cert", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem.cert)  # finds out which file is wrong
    try:
        with _path(pem.cert) as cert, _path(pem.key) as key:
            context.load_cert_chain(cert, key, password=_refuse_password)
    except ssl.SSLError as error:
        raise TlsError(_explain(error.reason or "")) from None
    except OSError as error:  # too many open files, for example
        raise TlsError(f"tls_cert: the certificate and its key cannot be loaded: {error.strerror}") from None
    if pem.client_ca is not None:
        _trust("tls_client_ca", context, pem.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        # An intermediate CA may be named without its root, which would let in the clients of its other intermediates.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _read(setting: str, path: str) -> str:
    """Raises TlsError."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("ascii", "ignore")  # comments may contain anything
    except OSError as error:
        raise TlsError(f"{setting}: the file '{path}' cannot be read: {error.strerror}") from None


def _trust(setting: str, context: ssl.SSLContext, certificates: str) -> None:
    """Raises TlsError."""
    try:
        context.load_verify_locations(cadata=certificates)
    except (ssl.SSLError, ValueError):  # ValueError: the file is empty
        raise TlsError(f"{setting}: the file contains no valid certificate in PEM format") from None


@contextmanager
def _path(content: str) -> Iterator[str]:
    """A path that OpenSSL can read the content from, since it accepts no bytes."""
    with os.fdopen(os.memfd_create("pem"), "w+b") if sys.platform == "linux" else tempfile.TemporaryFile() as file:
        file.write(content.encode())
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _refuse_password() -> str:
    raise TlsError("tls_key: the key is encrypted; store it decrypted, readable by the server's user only")


def _explain(reason: str) -> str:
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return "tls_key: the key does not belong to the certificate in tls_cert"
    if reason.endswith(("_TOO_SMALL", "_TOO_WEAK")):
        return f"tls_cert: OpenSSL refuses the certificate as too weak ({reason.lower().replace('_', ' ')})"
    return "tls_key: the file contains no valid private key in PEM format"
