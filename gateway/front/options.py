"""The options that the supervisor passes to a front at startup."""

from dataclasses import dataclass

from gateway.process.address import GrpcServer


@dataclass(frozen=True)
class FrontOptions:
    """Admission limits are this front's share of the gateway's.

    run_dir  where a front may create sockets; the supervisor cleans up there, also after a front that was killed
    """

    number: int
    run_dir: str
    grpc_host: str
    grpc_port: int
    grpc_server: GrpcServer
    grpc_keepalive_s: float
    grpc_max_connection_age_s: float
    grace_s: float
    max_json_bytes: int
    max_body_bytes: int
    max_response_bytes: int
    cache_bytes: int
    max_requests: int
    max_admitted_bytes: int
    request_timeout_s: float
    header_timeout_s: float
    min_body_rate: int
    max_connections: int
    max_connections_per_peer: int
    shared_memory: bool
    server_name: str
    invocations_model: str
    predict_route: str
    health_route: str
    sagemaker_models: str
    max_upload_bytes: int  # of the files of a request to load a model; 0 if there may be none
    fast_path: bool
    sandbox: bool  # whether the front gives up what it does not need: front/box.py
    tls: bool  # the supervisor sends what it needs
    access: bool  # the supervisor sends who may do what; without it, everything is allowed
    access_log: str  # the path of the access log; "" for none
    access_log_opener: int  # the socket at which the supervisor opens it: process/file_opener.py; -1 if there is none
    access_log_descriptor: int  # what the access log is written to in place of a path; -1 for none
    audit: bool  # whether there is an audit log
    otlp_endpoint: str | None  # where traces go: see supervisor/tracing.py
    console: bool
    cors_origins: list[str]
    allowed_hosts: list[str]  # a list, because the options are passed as JSON
