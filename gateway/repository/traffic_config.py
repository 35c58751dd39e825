"""[traffic] of model.toml, and the same keys as requests change them at run time: see gateway/domain/traffic.py."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gateway.domain.caller import PER_REQUEST_HEADERS
from gateway.domain.traffic import Shadow, Traffic


def _number(value: Any) -> Any:
    """Return the number of a version as text, without leading zeros."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"0*[1-9]\d{0,18}", text):
        raise ValueError('it must be the number of a version, such as "3"')
    return text.lstrip("0")


_Version = Annotated[str, BeforeValidator(_number)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShadowToml(_Strict):
    """Version `version` gets a copy of a share of the requests that version `of` answers."""

    version: _Version
    of: _Version
    share: float = Field(1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _other(self) -> "ShadowToml":
        if self.version == self.of:
            raise ValueError("a version cannot be its own shadow; 'of' must be another version")
        return self


class TrafficToml(_Strict):
    """See Traffic."""

    weights: Mapping[_Version, Annotated[float, Field(ge=0, le=1e9)]] = Field(default_factory=dict, max_length=64)
    sticky_header: str = Field("", max_length=128)
    sticky_identity: bool = False
    shadow: ShadowToml | None = None

    @field_validator("weights")
    @classmethod
    def _some(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        if value and not any(value.values()):
            raise ValueError("at least one version must have a weight above 0")
        return value

    @field_validator("sticky_header")
    @classmethod
    def _header(cls, value: str) -> str:
        value = value.lower()
        if value and not re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]+", value):
            raise ValueError('it must be the name of a header, such as "x-user-id"')
        if value in PER_REQUEST_HEADERS:
            raise ValueError("it differs in each request; use a header that names a user or a session")
        return value

    def resolve(self) -> Traffic:
        shadow = None if self.shadow is None else Shadow(self.shadow.version, self.shadow.of, self.shadow.share)
        return Traffic(dict(self.weights), self.sticky_header, self.sticky_identity, shadow)
