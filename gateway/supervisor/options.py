"""The options of fronts and of the manager, as the settings say."""

from pathlib import Path

from gateway.config import Settings, parse_address, split_names
from gateway.front.options import FrontOptions
from gateway.lifecycle.needs_file import NeedsFile
from gateway.lifecycle.options import ManagerOptions
from gateway.lifecycle.sandbox import SandboxPolicy
from gateway.lifecycle.starter import StarterOptions
from gateway.process.cgroup import MemoryGroups
from gateway.supervisor.served import Served


def manager_options(
    settings: Settings, served: Served, run_dir: Path, environments: Path, memory_groups: MemoryGroups | None
) -> ManagerOptions:
    workers = StarterOptions(
        run_dir=run_dir,
        accelerator=settings.accelerator,
        max_response_bytes=settings.max_response_bytes,
        max_body_bytes=settings.max_body_bytes,
        audit_share=settings.audit_share,
        sandbox=SandboxPolicy(settings.sandbox, settings.allow_sandbox_exceptions, settings.allow_python),
        memory_groups=memory_groups,
        fork_workers=settings.fork_workers,
    )
    return ManagerOptions(
        repository=served.path,
        workers=workers,
        poll_s=settings.poll_s,
        grace_s=settings.grace_s,
        strict_readiness=settings.strict_readiness,
        control=settings.repository_control,
        load_model=tuple(split_names(settings.load_model)),
        load=settings.load,
        memory_limit=settings.memory_limit,
        needs=NeedsFile(environments / "needs.json"),
        scan=served.scan,
        is_complete=served.mirrors.is_complete,
    )


def front_options(
    settings: Settings,
    run_dir: Path,
    grpc_port: int,
    has_policy: bool,
    access_log_descriptor: int,
    otlp_endpoint: str | None,
    number: int,
) -> FrontOptions:
    """Return the options of the front with this number. The limits of the gateway are divided among its fronts."""
    return FrontOptions(
        number=number,
        run_dir=str(run_dir),
        grpc_host=parse_address(settings.grpc).host,
        grpc_port=grpc_port,
        grpc_server=settings.grpc_server,
        grpc_keepalive_s=settings.grpc_keepalive_s,
        grpc_max_connection_age_s=settings.grpc_max_connection_age_s,
        grace_s=settings.grace_s,
        max_json_bytes=settings.max_json_bytes,
        max_body_bytes=settings.max_body_bytes,
        max_response_bytes=settings.max_response_bytes,
        cache_bytes=settings.cache_bytes,
        max_requests=max(1, settings.max_requests // settings.fronts),
        max_admitted_bytes=max(1, settings.max_admitted_bytes // settings.fronts),
        request_timeout_s=settings.request_timeout_s,
        header_timeout_s=settings.header_timeout_s,
        min_body_rate=settings.min_body_rate,
        max_connections=settings.max_connections,
        max_connections_per_peer=settings.max_connections_per_peer,
        shared_memory=settings.shared_memory,
        server_name=settings.server_name,
        invocations_model=settings.invocations_model,
        predict_route=settings.predict_route,
        health_route=settings.health_route,
        sagemaker_models=settings.sagemaker_models if settings.sagemaker_multi_model else "",
        max_upload_bytes=settings.max_upload_bytes if settings.allow_uploads else 0,
        fast_path=settings.fast_path,
        sandbox=settings.sandbox,
        tls=bool(settings.tls_cert),
        access=has_policy,
        access_log="" if settings.access_log in ("", "-") else str(Path(settings.access_log).absolute()),
        access_log_opener=-1,  # FrontProcess has it
        access_log_descriptor=access_log_descriptor,
        audit=bool(settings.audit_log),
        otlp_endpoint=otlp_endpoint,
        console=settings.console,
        cors_origins=split_names(settings.cors_origin),
        allowed_hosts=[name.lower() for name in split_names(settings.allowed_hosts)],
    )
