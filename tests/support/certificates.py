"""Certificates for tests: an authority of their own, which issues those of servers and clients."""

import datetime
import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_ALTERNATIVE_NAMES = x509.SubjectAlternativeName.oid
LOOPBACK = ("localhost", "127.0.0.1")


class Issued(NamedTuple):
    """The files of a certificate and its key, both PEM."""

    cert: Path
    key: Path


class Authority:
    """A CA. `cert` is its file, which verifies what it has issued."""

    def __init__(self, folder: Path, name: str = "authority", key_bits: int = 0) -> None:
        """`folder` gets all files. key_bits: RSA's, or 0 for a key on the curve P-256, for all keys."""
        self._folder, self._key_bits = folder, key_bits
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = self._new_key()
        self.cert = folder / f"{name}.pem"
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def server(self, name: str = "server", hosts: tuple[str, ...] = LOOPBACK) -> Issued:
        return self._issue(name, hosts, ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, name: str = "client", *others: str, file: str = "", dns: bytes = b"") -> Issued:
        """others: alternative names: URIs, addresses and DNS names. file: the name of its files, by default `name`.

        dns  instead of `others`: the only alternative name, which need not be valid
        """
        return self._issue(name, others, ExtendedKeyUsageOID.CLIENT_AUTH, file, dns)

    def client_context(self, issued: Issued | None = None) -> ssl.SSLContext:
        """A client's context that trusts this authority, and presents a certificate if one is given."""
        context = ssl.create_default_context(cafile=str(self.cert))
        if issued is not None:
            context.load_cert_chain(*issued)
        return context

    def _issue(
        self, name: str, hosts: tuple[str, ...], usage: x509.ObjectIdentifier, file: str = "", dns: bytes = b""
    ) -> Issued:
        key = self._new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), False)
        if dns:
            names = bytes([0x30, len(dns) + 2, 0x82, len(dns)]) + dns  # DER: a sequence of one DNS name
            builder = builder.add_extension(x509.UnrecognizedExtension(_ALTERNATIVE_NAMES, names), False)
        issued = Issued(self._folder / f"{file or name}.pem", self._folder / f"{file or name}.key")
        issued.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        issued.key.write_bytes(_pem(key, NoEncryption()))
        return issued

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        return x509.CertificateBuilder(
            self._name, subject, key.public_key(), x509.random_serial_number(), now - day, now + day
        )

    def _new_key(self) -> Any:
        if self._key_bits:
            return rsa.generate_private_key(65537, self._key_bits)
        return ec.generate_private_key(ec.SECP256R1())


def encrypt(key: Path) -> None:
    """Replace a key's file by one that needs a password."""
    loaded = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(_pem(loaded, BestAvailableEncryption(b"password")))


def _pem(key: Any, encryption: Any) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return pem


def _name(host: str) -> x509.GeneralName:
    if "://" in host:
        return x509.UniformResourceIdentifier(host)
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
