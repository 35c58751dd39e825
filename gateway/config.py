"""The gateway's settings. Flags override environment variables, which override modelport.toml."""

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from gateway.domain import default_limits as default
from gateway.domain.byte_sizes import read_bytes
from gateway.errors import shorten
from gateway.process.address import Address, GrpcServer

DAY_S = 24 * 60 * 60
_HOST_NAME = re.compile(r"[\w-]+(\.[\w-]+)*", re.ASCII)
# As browsers send them: in lower case, without a path. Extensions of browsers have schemes of their own.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\sA-Z/?#@]+", re.ASCII)
_MODEL_NAME = re.compile(r"[^\s/\\]+")
_ROUTE = re.compile(r"(/[\w.:~-]+)+", re.ASCII)
# Variables by which platforms configure a container, and what precedes their values: those of Vertex AI and SageMaker.
_PLATFORM_VARIABLES = (
    ("http", "AIP_HTTP_PORT", "0.0.0.0:"),
    ("http", "SAGEMAKER_BIND_TO_PORT", "0.0.0.0:"),
    ("predict_route", "AIP_PREDICT_ROUTE", ""),
    ("health_route", "AIP_HEALTH_ROUTE", ""),
    ("sagemaker_multi_model", "SAGEMAKER_MULTI_MODEL", ""),
)
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")

RepositoryControl = Literal["poll", "explicit", "none"]
ModelLoading = Literal["always", "on_demand"]
LogFormat = Literal["text", "json"]
# In variables and flags, they are separated by commas.
Places = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(lambda value: tuple(split_names(value)) if isinstance(value, str) else value),
]


class SettingsError(Exception):
    """An invalid setting. The message is one sentence that names its source, its value, and what is allowed."""


class RuntimeSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    python: Path | None = Field(None, description="an interpreter that already has the framework")


class Settings(BaseModel):
    """Each field is a flag (`--max-requests`), a variable (`MODELPORT_MAX_REQUESTS`) and a key of modelport.toml.

    The descriptions are the help of the flags.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: str = Field("127.0.0.1:8000", description="REST address, HOST:PORT")
    grpc: str = Field("127.0.0.1:8001", description="gRPC address, HOST:PORT")
    grpc_server: GrpcServer = Field(
        "native",
        description="native: fastest; guarded: native behind a guard against floods, as always with TLS; grpcio",
    )
    grpc_keepalive_s: float = Field(
        0.0, ge=0, le=DAY_S, description="idle seconds after which a gRPC connection is pinged; 0: never"
    )
    grpc_max_connection_age_s: float = Field(
        0.0, ge=0, le=DAY_S, description="age at which a gRPC connection is closed, with grpcio only; 0: never"
    )
    metrics: str = Field("127.0.0.1:8002", description="Prometheus address, HOST:PORT; empty: no metrics port")
    tls_cert: str = Field("", description="certificate chain, a PEM file; with it, every port speaks TLS only")
    tls_key: str = Field("", description="private key of tls_cert, an unencrypted PEM file")
    tls_client_ca: str = Field("", description="CAs, a PEM file; clients must present a certificate of one of them")
    log: LogFormat = Field("text", description="text or json: how lines of the log are written")
    tensorboard: str = Field("", description="folder that gets live figures of each model as a TensorBoard log")
    access_log: str = Field("", description="file that gets a line for each request; -: standard output")
    otlp_endpoint: str = Field(
        "", description="URL of a collector that gets traces, such as http://127.0.0.1:4318; empty: none"
    )
    trace_ratio: float = Field(
        0.01, ge=0, le=1, description="share of the requests that are traced if their traceparent does not say so"
    )
    audit_log: str = Field("", description="file that gets a line for each refused or administrative request")
    audit_log_bytes: int = Field(64 << 20, ge=0, description="size at which the audit log is rotated; 0: never")
    audit_log_files: int = Field(5, ge=1, le=1000, description="files of the audit log that are kept")
    fronts: int = Field(1, ge=1, le=64, description="front processes")
    fast_path: bool = Field(True, description="handle the usual requests in compiled code, if it is installed")
    accelerator: str = Field("cpu", pattern="^(cpu|cuda)$", description="cpu or cuda: the packages that runtimes use")
    models_config: str = Field("", description="a models.config of TensorFlow Serving, in place of a repository")
    repositories: Places = Field(
        (), description="folders and URLs that are served, if the command names none; separated by commas"
    )
    remote_poll_s: float = Field(
        default.REMOTE_POLL_S, gt=0, le=DAY_S, description="seconds between two listings of a remote repository"
    )
    model_cache: str = Field(
        "", description="folder of the files of remote repositories; default: MODELPORT_HOME/models"
    )
    model_cache_bytes: int = Field(
        0, ge=0, description="maximum bytes of model_cache, in which the least recently used make room; 0: any"
    )
    poll_s: float = Field(default.POLL_S, gt=0, description="seconds between two scans of the repository")
    repository_control: RepositoryControl = Field(
        "poll",
        description="poll: follow the repository; explicit: load models on request; none: load all at the start",
    )
    load_model: str = Field("", description="models to load at the start under explicit control: names, or *")
    load: ModelLoading = Field(
        "always",
        description="always: load models when they are found; on_demand: with their first request. For models whose "
        "model.toml does not say so",
    )
    memory_limit: int = Field(
        0,
        ge=0,
        description="most memory of all processes, such as 8GiB; models on demand are unloaded to keep to it. 0: any",
    )
    strict_readiness: bool = Field(False, description="report readiness only when every model is READY")
    max_json_bytes: int = Field(default.MAX_JSON_BYTES, gt=0, description="largest JSON body, in bytes")
    max_body_bytes: int = Field(
        default.MAX_BODY_BYTES, gt=0, description="largest binary body or gRPC message, in bytes"
    )
    max_response_bytes: int = Field(
        default.MAX_RESPONSE_BYTES, gt=0, description="largest response, in bytes of its tensors"
    )
    cache_bytes: int = Field(
        default.CACHE_BYTES, ge=0, description="response cache of a front, in bytes, for the models that share it"
    )
    max_requests: int = Field(default.MAX_REQUESTS, gt=0, description="maximum number of requests in progress")
    max_admitted_bytes: int = Field(
        default.MAX_ADMITTED_BYTES,
        gt=0,
        description="maximum bytes of input in progress, including bodies that are being received",
    )
    max_connections: int = Field(
        0, ge=0, description="maximum number of REST connections of a front; 0: three quarters of its open files"
    )
    max_connections_per_peer: int = Field(
        0, ge=0, description="maximum number of REST connections of a front from one address; 0: any"
    )
    request_timeout_s: float = Field(
        default.REQUEST_TIMEOUT_S, gt=0, description="timeout of requests that set no deadline of their own, in seconds"
    )
    header_timeout_s: float = Field(
        default.HEADER_TIMEOUT_S, gt=0, description="seconds within which the headers of a REST request must arrive"
    )
    min_body_rate: int = Field(
        default.MIN_BODY_RATE,
        ge=0,
        description="minimum bytes per second of a REST body, after header_timeout_s; 0: any",
    )
    audit_share: float = Field(
        default.AUDIT_SHARE,
        ge=0,
        le=1,
        description="share of a model's time for running batched requests again alone, to compare the answers",
    )
    grace_s: float = Field(
        default.GRACE_S,
        gt=0,
        description="longest time that stopping takes, in seconds; requests in progress are answered",
    )
    drain_s: float = Field(
        0.0,
        ge=0,
        description="seconds of grace_s in which a stopping server accepts requests and has clients connect elsewhere",
    )
    console: bool = Field(True, description="answer browsers at / with the console's pages")
    server_name: str = Field(
        "modelport",
        min_length=1,
        max_length=100,
        description="name in the server's metadata; some clients require triton",
    )
    invocations_model: str = Field(
        "", description="model of requests to /invocations that name none; without it, there must be only one"
    )
    model_name: str = Field(
        "", max_length=200, description="name of the model, if an artifact or a model's own folder is served"
    )
    sagemaker_multi_model: bool = Field(
        False, description="SageMaker's API for endpoints with several models: POST and DELETE /models"
    )
    sagemaker_models: str = Field(
        "/opt/ml/models", description="folder below which SageMaker's models are, if there are several"
    )
    predict_route: str = Field("", description="a further path for predictions; Vertex AI's AIP_PREDICT_ROUTE")
    health_route: str = Field("", description="a further path that reports readiness; Vertex AI's AIP_HEALTH_ROUTE")
    allowed_hosts: str = Field(
        "", description="host names by which browsers may change the server, separated by commas"
    )
    cors_origin: str = Field(
        "", description="origins whose web pages may send requests and read answers, separated by commas; * for all"
    )
    fork_workers: bool = Field(
        True, description="start workers as copies of a process that has imported the framework (Linux)"
    )
    sandbox: bool = Field(True, description="run each model in a box: its own files, no network, few system calls")
    allow_sandbox_exceptions: bool = Field(
        False, description="let model.toml open the box: [sandbox], and links that lead out of a model's folder"
    )
    allow_python: bool = Field(False, description="serve models that are Python programs: model.py")
    shared_memory: bool = Field(False, description="let clients on this machine register shared memory")
    allow_uploads: bool = Field(
        False, description="let clients load models with files and configurations of their own: load requests, push"
    )
    max_upload_bytes: int = Field(
        default.MAX_UPLOAD_BYTES, gt=0, description="largest sum of the files in a load request, in bytes"
    )
    allow_export: bool = Field(False, description="let clients export models: POST /v2/models/{model}/export")
    require_locks: bool = Field(False, description="build environments only from lock files, which have hashes")
    identities: str = Field("", description="file of API keys, tokens and roles; without it, nobody is identified")
    allow_anonymous_admin: bool = Field(
        False, description="let anyone on the network change the server, if nobody is identified"
    )
    runtimes: Mapping[str, RuntimeSettings] = Field(default_factory=dict)

    @field_validator("memory_limit", "model_cache_bytes", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> Any:
        return read_bytes(value)


@dataclass(frozen=True)
class Sources:
    """Where settings come from. Tests can replace the process's environment and folder.

    conventions  what a platform expects of the servers in its containers, before its variables
    """

    flags: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: Path = field(default_factory=Path)
    conventions: Mapping[str, Any] = field(default_factory=dict)


def read_settings(sources: Sources) -> Settings:
    """Read and check all settings. Raises SettingsError."""
    file = sources.folder / "modelport.toml"
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    text = _read(file)
    if text is not None:
        try:
            values.update(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{file} is not TOML: {error}") from None
        origin = dict.fromkeys(values, str(file))
    for key, value in sources.conventions.items():
        values[key], origin[key] = value, "the platform"
    for key, variable, prefix in _PLATFORM_VARIABLES:
        if sources.environment.get(variable):
            values[key], origin[key] = prefix + sources.environment[variable], variable
    for key in Settings.model_fields:
        variable = f"MODELPORT_{key.upper()}"
        if key != "runtimes" and variable in sources.environment:
            values[key], origin[key] = sources.environment[variable], variable
    for key, value in sources.flags.items():
        if value is not None:
            values[key], origin[key] = value, "--" + key.replace("_", "-")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(explain(error, lambda key: origin.get(key, "settings"), Settings)) from None
    if settings.load_model and settings.repository_control != "explicit":
        raise SettingsError(
            f"{origin['load_model']}: models to load need explicit control, but repository_control is "
            f"'{settings.repository_control}'; add --repository-control explicit, or name no models"
        )
    if settings.grpc_max_connection_age_s and settings.grpc_server != "grpcio":
        raise SettingsError(
            f"{origin['grpc_max_connection_age_s']}: the native gRPC server cannot close connections by their age; "
            "add --grpc-server grpcio, or set the age to 0"
        )
    for key, missing in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")):
        if getattr(settings, key) and not getattr(settings, missing):
            raise SettingsError(f"{origin[key]}: TLS also needs {missing}; set it to the path of a PEM file")
    for key in ("predict_route", "health_route"):
        route = getattr(settings, key)
        if route and not _ROUTE.fullmatch(route):
            raise SettingsError(f"{origin[key]}: '{route}' is not a path, such as /v1/models/m:predict")
    if settings.model_name and not _MODEL_NAME.fullmatch(settings.model_name):
        raise SettingsError(
            f"{origin['model_name']}: '{settings.model_name}' is not a name for a model; use no slash and no blank"
        )
    for name in split_names(settings.allowed_hosts):
        if not _HOST_NAME.fullmatch(name):
            raise SettingsError(
                f"{origin['allowed_hosts']}: '{name}' is not a host name; use names such as models.example.com, "
                "separated by commas, without scheme and port"
            )
    for origin_name in split_names(settings.cors_origin):
        if (origin_name != "*" and not _ORIGIN.fullmatch(origin_name)) or _DEFAULT_PORT.fullmatch(origin_name):
            raise SettingsError(
                f"{origin['cors_origin']}: '{origin_name}' is not an origin as browsers send it; use origins such as "
                "https://app.example.com or http://localhost:3000, in lower case and without path or default port, "
                "separated by commas, or * for all"
            )
    for key in ("http", "grpc", "metrics"):
        if getattr(settings, key) or key != "metrics":
            parse_address(getattr(settings, key), origin.get(key, key))
    return settings


def _read(file: Path) -> str | None:
    """Return the file's text; None if there is no such file. Raises SettingsError."""
    try:
        return file.read_text("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not TOML: it is not UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None


def explain(
    error: ValidationError, where: Any, model: type[BaseModel], names: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return pydantic's first error as one sentence that names the source, the key, its value, and what is allowed.

    where  returns the source of a key
    names  field of the model → its name in the source, if they differ
    """
    first = error.errors()[0]
    key = ".".join(names.get(str(part), str(part)) for part in first["loc"])
    source = where(str(first["loc"][0]) if first["loc"] else "")
    if first["type"] == "extra_forbidden":
        return (
            f"{source}: there is no key '{key}'; the keys are {', '.join(sorted(_sibling_keys(model, first['loc'])))}"
        )
    if first["type"] == "missing":
        return f"{source}: the key '{key}' is missing"
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    if not key:
        return f"{source}: {reason}"
    if isinstance(first["input"], dict):
        return f"{source}: in [{key}], {reason}"
    return f"{source}: '{key}' is {shorten(repr(first['input']))}, but {reason}"


def _sibling_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> Iterable[str]:
    """Return the keys of the table that contains the key at this location."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        for kind in (field.annotation, *get_args(field.annotation)) if field else ():
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model.model_fields


def split_names(names: str) -> list[str]:
    """Split a setting that has several names, separated by commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def parse_address(text: str, where: str = "address") -> Address:
    """Parse HOST:PORT, with brackets around an IPv6 host. Raises SettingsError."""
    host, colon, port = text.rpartition(":")
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    if not colon or not host or not digits or int(port) > 65535:
        raise SettingsError(f"{where}: '{text}' is not an address; use HOST:PORT, such as 127.0.0.1:8000")
    return Address(host.strip("[]"), int(port))


def home() -> Path:
    """Return the folder of environments and caches: MODELPORT_HOME, or modelport in the user's cache directory.

    Raises SettingsError.
    """
    try:
        return _home()
    except RuntimeError:  # the user has no entry in the password database, which is common in containers
        raise SettingsError(
            "this user has no home directory; set MODELPORT_HOME to a folder for environments"
        ) from None
    except FileNotFoundError:
        raise SettingsError("the current directory was deleted; change to another one") from None


def _home() -> Path:
    if chosen := os.environ.get("MODELPORT_HOME"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "modelport"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport"
