"""TensorFlow Serving's REST routes in the admin app: the state of a model and its signatures."""

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.requests import Request

from gateway.engine.protocol import Engine
from gateway.errors import NotFound
from gateway.front.base.access import identity_of, readable_models
from gateway.front.base.app_routes import AppRoutes
from gateway.front.base.body import ReadObject
from gateway.front.base.loading import loaded_model
from gateway.front.dialects.tfserving.metadata import SIGNATURE_DEF, model_spec, model_status, signature_map
from gateway.front.dialects.tfserving.model_spec import check_version, find_model

_MODEL = "/v1/models/{model}"
_VERSION = _MODEL + "/versions/{version}"
_LABEL = _MODEL + "/labels/{label}"


def add_routes(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    @app.get("/v1/models", tags=["KServe v1"])
    async def models(request: Request) -> dict[str, list[str]]:
        """The names of all models."""
        return {"models": readable_models(engine, request)}

    @app.get(_MODEL, tags=["TensorFlow Serving"])
    @app.get(_VERSION, tags=["TensorFlow Serving"])
    @app.get(_LABEL, tags=["TensorFlow Serving"])
    async def status(model: str, version: str = "", label: str = "") -> dict[str, Any]:
        """The state of one version, or of all: START, LOADING, AVAILABLE, UNLOADING or END.

        `name` and `ready` are the fields of KServe's v1 protocol. The status is 200 in any state, as TensorFlow
        Serving's clients expect; KServe's clients read `ready`.
        """
        states = _as_dict(model_status(engine, model, version or label, bool(label)))
        found = find_model(engine, model, version or label, bool(label))
        return {**states, "name": found.name, "ready": found.state == "READY"}

    @app.get(_MODEL + "/metadata", tags=["TensorFlow Serving"])
    @app.get(_VERSION + "/metadata", tags=["TensorFlow Serving"])
    @app.get(_LABEL + "/metadata", tags=["TensorFlow Serving"])
    async def metadata(request: Request, model: str, version: str = "", label: str = "") -> dict[str, Any]:
        """The model's signatures."""
        check_version(model, version or label, bool(label))
        found = await loaded_model(engine, model, version or label, identity_of(request))
        signatures = _as_dict(signature_map(found))
        return {"model_spec": _as_dict(model_spec(found)), "metadata": {SIGNATURE_DEF: signatures}}

    # Verbs other than those of the hot paths.
    @app.post(_MODEL + ":{verb}", include_in_schema=False)
    @app.post(_VERSION + ":{verb}", include_in_schema=False)
    @app.post(_LABEL + ":{verb}", include_in_schema=False)
    async def nothing(verb: str) -> None:
        raise NotFound(f"there is no ':{verb}'; the verbs are :predict, :classify and :regress")


def _as_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
