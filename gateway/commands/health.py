"""`modelport health`: whether the gateway on this machine is live or ready, for the health checks of containers.

It runs every few seconds, so it imports little: no settings, but the few of them that say how to connect.
"""

import http.client
import os
import ssl
import sys
import tomllib
from contextlib import closing
from pathlib import Path

# Shorter than the timeout of the image's health check, so that the reason is printed.
_TIMEOUT_S = 4


def health(ready: bool, cert: Path | None = None, key: Path | None = None) -> int:
    """Run the command. Return the exit code: 0 if the gateway is live, or ready.

    cert, key  a client's, for a gateway that requires one. Without them it counts as live when it asks for one
    """
    path = "/v2/health/ready" if ready else "/v2/health/live"
    host, port = _address()
    try:
        with closing(_connection(host, port, cert, key)) as connection:  # not urllib, which would ask a proxy
            connection.request("GET", path)
            status = connection.getresponse().status
    except ssl.SSLError as error:
        if not ready and cert is None and error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
            return 0
        return _fails(host, port, error.reason or str(error))
    except (http.client.HTTPException, OSError, ValueError) as error:
        return _fails(host, port, str(error))
    return 0 if status == 200 else _fails(host, port, f"{path} returned {status}")


def _connection(host: str, port: int, cert: Path | None, key: Path | None) -> http.client.HTTPConnection:
    """Raises OSError."""
    if not _setting("tls_cert"):
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    context = ssl.create_default_context()
    # The certificate is for the names under which clients reach the gateway, not for this machine's own address.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        context.load_cert_chain(cert, key)
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)


def _address() -> tuple[str, int]:
    """Return the address of REST, or this machine's own if the gateway listens on all."""
    host, _, port = (_setting("http") or "127.0.0.1:8000").rpartition(":")
    host = host.strip("[]")
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound
    return own.get(host, host), int(port) if port.isdigit() else 0


def _setting(name: str) -> str:
    """Return a setting of the gateway, except that it may have been a flag."""
    value = os.environ.get(f"MODELPORT_{name.upper()}")
    if value is not None:
        return value
    try:
        return str(tomllib.loads(Path("modelport.toml").read_text("utf-8-sig")).get(name, ""))
    except (OSError, ValueError):
        return ""


def _fails(host: str, port: int, reason: str) -> int:
    print(f"modelport: the gateway at {host}:{port} is not healthy: {reason}", file=sys.stderr)
    return 1
