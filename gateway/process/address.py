"""Addresses of the gateway's ports. They are not in gateway.config, so that fronts start without importing pydantic."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

GrpcServer = Literal["native", "guarded", "grpcio"]


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @property
    def url_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.url_host}:{self.port}"


def is_loopback_address(host: str) -> bool:
    """Whether this is a loopback address, with or without a zone. A name is none."""
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
