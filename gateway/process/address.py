"""Addresses of the gateway's ports. They are not in gateway.config, so that fronts start without importing pydantic."""

from dataclasses import dataclass
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
