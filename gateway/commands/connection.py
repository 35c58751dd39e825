"""How the commands that talk to a running gateway reach it: its URL, certificates, and the key that identifies them."""

import argparse
import os
import re
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gateway.config import SettingsError
from gateway.process.address import is_loopback_address

KEY_VARIABLE = "MODELPORT_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
# The alerts by which a server says that it wants a client's certificate, in TLS 1.3 and 1.2, or rejects the one it got.
_NO_CERTIFICATE = ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE")
_BAD_CERTIFICATE = re.compile("ALERT_(UNKNOWN_CA|.*CERTIFICATE.*|DECRYPT_ERROR)")


class Connection(NamedTuple):
    """url: of REST. ca: a file of CAs; None for the system's. key: None if it is in the file `cert`. api_key: or ""."""

    url: str = DEFAULT_URL
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    api_key: str = ""

    def opener(self) -> urllib.request.OpenerDirector:
        """Return an opener. It uses no proxy for loopback addresses, whatever the environment says.

        Raises SettingsError.
        """
        address = urllib.parse.urlsplit(self.url)
        handlers: list[urllib.request.BaseHandler] = []
        if _is_loopback(address.hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        if address.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=self._context()))
        elif self.ca or self.cert or self.key:
            raise SettingsError(f"--ca, --cert and --key need a URL with https://, but --url is {self.url}")
        return urllib.request.build_opener(*handlers)

    def request(
        self, path: str, body: bytes | Iterable[bytes] | None, headers: dict[str, str]
    ) -> urllib.request.Request:
        """Return the request, with the API key. Raises ValueError for an invalid URL."""
        address = urllib.parse.urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.hostname or address.port == 0:
            raise ValueError("not an address")
        request = urllib.request.Request(self.url.rstrip("/") + path, body, headers)
        if self.api_key:
            # A server that redirects to another one does not get the key sent there.
            request.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        return request

    def explain(self, error: ssl.SSLError) -> str:
        """Return why TLS failed, as one sentence that says what to do."""
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = error.verify_message.rstrip(".")
            if "mismatch" in reason:
                return f"the certificate of {self.url} is for another host ({reason}); use a host that it names"
            if "self-signed" in reason or "unable to get" in reason:
                return f"the certificate of {self.url} is not trusted ({reason}); name the CA that issued it with --ca"
            return f"the certificate of {self.url} is not valid: {reason}"
        reason = error.reason or ""
        if self.cert is None and (reason in _NO_CERTIFICATE):
            return (
                f"the gateway at {self.url} requires a client certificate; name one with --cert, and its key with --key"
            )
        if self.cert is not None and _BAD_CERTIFICATE.search(reason):
            return f"the gateway at {self.url} does not accept the certificate in {self.cert}"
        if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return f"the server at {self.url} does not speak TLS; use http://"
        return f"TLS with {self.url} failed: {reason.lower().replace('_', ' ') or error}"

    def _context(self) -> ssl.SSLContext:
        """Raises SettingsError."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError:
            raise SettingsError(f"--ca: {self.ca} contains no certificate in PEM format") from None
        except OSError as error:
            raise SettingsError(f"--ca: {self.ca} cannot be read: {error.strerror}") from None
        if self.cert is not None:
            _load(context, self.cert, self.key)
        elif self.key is not None:
            raise SettingsError(f"--key: the key in {self.key} needs its certificate; name it with --cert")
        return context


def add_flags(parser: argparse.ArgumentParser) -> None:
    # Otherwise --api-key means --api-key-file, and a key given to it is printed as the name of a missing file.
    parser.allow_abbrev = False
    parser.add_argument("--url", default=DEFAULT_URL, help="the gateway's REST address")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="CAs to trust, in PEM format; default: the system's")
    parser.add_argument("--cert", type=Path, metavar="FILE", help="client certificate in PEM format")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its private key; default: in the file of --cert")
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help=f"file with the API key; default: the variable {KEY_VARIABLE}"
    )


def from_flags(options: argparse.Namespace) -> Connection:
    """Raises SettingsError. The API key is no flag, because other users of the machine can read command lines."""
    file: Path | None = options.api_key_file
    try:
        api_key = os.environ.get(KEY_VARIABLE, "") if file is None else file.read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"--api-key-file: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        api_key = "\0"
    api_key = api_key.strip()
    source = KEY_VARIABLE if file is None else f"--api-key-file: {file}"
    if file is not None and not api_key:
        raise SettingsError(f"{source} is empty; it should contain an API key")
    if not re.fullmatch(r"[\x21-\x7e]*", api_key):
        raise SettingsError(f"{source} is not an API key: it contains other characters than a header may have")
    return Connection(options.url, options.ca, options.cert, options.key, api_key)


def _load(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    """Raises SettingsError."""
    for flag, file in (("--cert", cert), ("--key", key)):
        if file is not None:
            try:
                file.open().close()
            except OSError as error:
                raise SettingsError(f"{flag}: {file} cannot be read: {error.strerror}") from None
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            raise SettingsError(
                f"--key: the key in {key or cert} does not belong to the certificate in {cert}"
            ) from None
        wanted = "a certificate and its key" if key is None else f"a certificate, or {key} no key,"
        raise SettingsError(f"--cert: {cert} does not contain {wanted} in PEM format") from None


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or is_loopback_address(host)
