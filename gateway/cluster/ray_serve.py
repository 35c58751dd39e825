"""An application for Ray Serve: a gateway on each node, to which its replica forwards HTTP requests."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from starlette.requests import Request
from starlette.responses import Response

from gateway.cluster.forwarding import Forwarder
from gateway.cluster.gateway_process import GatewayFailed, GatewayProcess

# The gateway limits requests itself. A lower limit would have them wait in Ray's queues, where priorities, deadlines
# and batches do not exist.
_MAX_ONGOING = 4096
_READY_POLL_S = 0.2


class Gateway:
    """A replica: `modelport serve` as a child process on loopback, and the forwarding to it.

    Ray Serve calls the methods, and sends requests once the constructor has returned: when the gateway is ready, which
    means that each model has loaded or failed.

    repository  a path that exists on every node, or a location such as s3://bucket/models
    flags       further flags of `modelport serve`
    """

    # Ray Serve awaits it, so that the replica's other work goes on.
    async def __init__(self, repository: str, flags: Sequence[str] = ()) -> None:  # type: ignore[misc]
        self._stopping = False
        self._gateway = await GatewayProcess.start(repository, flags)
        self._forwarder = Forwarder(self._gateway.address)
        while not await self._forwarder.ready():
            self._gateway.check()
            await asyncio.sleep(_READY_POLL_S)

    async def __call__(self, request: Request) -> Response:
        return await self._forwarder.forward(request)

    async def check_health(self) -> None:
        """Raise GatewayFailed if the gateway has ended or is not ready; Ray Serve then replaces this replica."""
        self._gateway.check()
        if not await self._forwarder.ready():
            raise GatewayFailed("the gateway is not ready")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return {"queued": 0.0 if self._stopping else await self._forwarder.queued()}

    async def __del__(self) -> None:
        # Ray Serve has waited for the requests in progress. It kills the replica, and with it the gateway, when its
        # graceful_shutdown_timeout_s is over.
        self._stopping = True
        if hasattr(self, "_forwarder"):  # otherwise, the constructor is still waiting, and ends with the replica
            await self._gateway.stop()
            await self._forwarder.close()


class ByQueue:
    """The policy of autoscaling: so many gateways that `target_queued` requests wait in each of them on average."""

    def __init__(self, target_queued: float) -> None:
        self._target_queued = target_queued

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """Return how many replicas there should be; Ray Serve applies its limits and delays. State: none."""
        queued = (context.aggregated_metrics or {}).get("queued", {})
        return sum(queued.values()) / self._target_queued, {}


def serve_app(
    repository: str,
    *,
    flags: Sequence[str] = (),
    min_gateways: int = 1,
    max_gateways: int = 1,
    target_queued: float = 8.0,
    autoscaling: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> serve.Application:
    """Return an application for `serve.run`, with at most one gateway on each node.

    repository     a path that exists on every node, or a location such as s3://bucket/models
    flags          further flags of `modelport serve`
    max_gateways   if larger than min_gateways, there are as many as it takes for `target_queued` requests to wait in
                   each (`modelport_requests_queued`)
    autoscaling    further settings of ray.serve.config.AutoscalingConfig, such as upscale_delay_s
    options        further options of the deployment, such as {"ray_actor_options": {"num_gpus": 1}}. The gateway uses
                   all cores that its process may use, whatever num_cpus says; limit it by cgroups or CPU affinity
    """
    scaling = AutoscalingConfig(
        min_replicas=min_gateways,
        max_replicas=max_gateways,
        policy=AutoscalingPolicy(policy_function=ByQueue, policy_kwargs={"target_queued": target_queued}),
        **(autoscaling or {}),
    )
    chosen = {"max_ongoing_requests": _MAX_ONGOING, "max_replicas_per_node": 1, "autoscaling_config": scaling}
    deployment = serve.deployment(Gateway).options(**chosen | dict(options or {}))
    return deployment.bind(repository, tuple(flags))
