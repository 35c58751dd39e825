"""The supported dialects: each has a folder here and a row in DIALECTS.

Transports use this list and know no dialect by name, and no dialect knows another one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.engine.protocol import Engine
from gateway.front.base.body import ReadObject
from gateway.front.base.dialect import Route
from gateway.front.base.grpc_method import Service
from gateway.front.base.limits import Limits
from gateway.front.dialects.mlflow import rest as mlflow
from gateway.front.dialects.plain import rest as plain
from gateway.front.dialects.tfserving import grpc as tfserving_grpc
from gateway.front.dialects.tfserving import rest as tfserving
from gateway.front.dialects.torchserve import rest as torchserve
from gateway.front.dialects.v2 import grpc as v2_grpc
from gateway.front.dialects.v2 import rest as v2

if TYPE_CHECKING:
    from gateway.front.base.app_routes import AppRoutes


class AppPart(NamedTuple):
    """A dialect's part of the admin app.

    hot_paths   OpenAPI descriptions of the hot routes, by path
    add_routes  adds the other routes
    """

    hot_paths: Mapping[str, Any]
    add_routes: "Callable[[AppRoutes, Engine, ReadObject], None] | None" = None


def _no_services(engine: Engine, limits: Limits) -> Sequence[Service]:
    return ()


class Registration(NamedTuple):
    """A dialect's part of each transport.

    root      the first segment of the paths of its hot routes
    match     returns the hot route for the remaining segments, or None
    app_part  returns its part of the admin app; imports Starlette, which inference does not need
    services  returns its gRPC services
    """

    root: str
    match: Callable[[list[str]], Route | None]
    app_part: Callable[[], AppPart]
    services: Callable[[Engine, Limits], Sequence[Service]] = _no_services


def _v2_app() -> AppPart:
    from gateway.front.dialects.v2 import admin, openapi

    return AppPart(openapi.HOT_PATHS, admin.add_routes)


def _plain_app() -> AppPart:
    from gateway.front.dialects.plain import openapi

    return AppPart(openapi.HOT_PATHS)


def _tfserving_app() -> AppPart:
    from gateway.front.dialects.tfserving import admin, openapi

    return AppPart(openapi.HOT_PATHS, admin.add_routes)


def _torchserve_app() -> AppPart:
    from gateway.front.dialects.torchserve import management, openapi

    return AppPart(openapi.HOT_PATHS, management.add_routes)


def _mlflow_app() -> AppPart:
    from gateway.front.dialects.mlflow import admin, openapi

    return AppPart(openapi.HOT_PATHS, admin.add_routes)


def _sagemaker_app() -> AppPart:
    from gateway.front.dialects.mlflow import openapi, sagemaker

    return AppPart(openapi.SAGEMAKER_PATHS, sagemaker.add_routes)


DIALECTS = (
    Registration("v2", v2.match, _v2_app, v2_grpc.services),
    Registration("predict", plain.match, _plain_app),
    Registration("v1", tfserving.match, _tfserving_app, tfserving_grpc.services),
    Registration("models", mlflow.match_model, _sagemaker_app),  # before TorchServe's, which has the same paths
    Registration("predictions", torchserve.match, _torchserve_app),
    Registration("invocations", mlflow.match, _mlflow_app),
)
