"""SageMaker's API for endpoints with several models, in the admin app: it loads and unloads them at `/models`.

TorchServe's management API has the same paths. With the setting sagemaker_multi_model, they are SageMaker's.
POST /models/{model}/invoke is a hot route.
"""

import asyncio
import os
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.codecs.json_text import dumps
from gateway.domain.control import GetPlaces, LoadModel, UnloadModel
from gateway.engine.protocol import Engine
from gateway.errors import AlreadyExists, InvalidRequest, NotFound, shorten
from gateway.front.base.access import MODEL, identity_of, may_read
from gateway.front.base.app_routes import AppRoutes
from gateway.front.base.body import ReadObject

_DEFAULT_LIMIT = 100
_NAME = re.compile(r"[\w.@+=-]{1,255}")


def add_routes(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    folder = engine.deployment.sagemaker_models
    if not folder:
        return

    @app.post("/models", tags=["SageMaker"], responses={409: {"description": "There is a model of this name"}})
    async def load(request: Request) -> Response:
        """Load a model: {"model_name": …, "url": a path below the folder of SageMaker's models}."""
        body = await read_object(request)
        name, url = body.get("model_name"), body.get("url")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidRequest("'model_name' must be a string of letters, digits and _ . @ + = -")
        request.scope[MODEL] = name
        # What another front is loading is not in the table of this one yet.
        if any(status.name == name for status in engine.models()) or name in await engine.control(GetPlaces()):
            raise AlreadyExists(f"there is a model '{shorten(name)}' already; unload it first")
        if not isinstance(url, str) or not await asyncio.to_thread(_is_below, url, folder):
            raise InvalidRequest("'url' must be the path of a model below the folder of SageMaker's models")
        await engine.control(LoadModel(name, place=url))
        return _answer({"modelName": name, "modelUrl": url})

    @app.get("/models", tags=["SageMaker"])
    async def models(request: Request, limit: str = "", next_page_token: str = "") -> dict[str, Any]:
        """The models that were loaded: at most `limit` of them (100), starting after `next_page_token`."""
        size = _DEFAULT_LIMIT
        if limit:
            if not re.fullmatch("[1-9][0-9]{0,8}", limit):
                raise InvalidRequest("'limit' must be a whole number of at least 1")
            size = int(limit)
        identity, places = identity_of(request), await engine.control(GetPlaces())
        names = [name for name in sorted(places) if name > next_page_token and may_read(identity, name)]
        listed = [{"modelName": name, "modelUrl": places[name]} for name in names[:size]]
        return {"models": listed, **({"nextPageToken": names[size - 1]} if len(names) > size else {})}

    @app.get("/models/{model}", tags=["SageMaker"])
    async def model(model: str) -> dict[str, Any]:
        """One model that was loaded."""
        return {"modelName": model, "modelUrl": await _place(engine, model)}

    @app.delete("/models/{model}", tags=["SageMaker"])
    async def unload(model: str) -> Response:
        """Unload a model."""
        await _place(engine, model)
        await engine.control(UnloadModel(model))
        return _answer({"modelName": model})


async def _place(engine: Engine, model: str) -> str:
    """Return the path of a model that was loaded. Raises NotFound."""
    places = await engine.control(GetPlaces())
    if model not in places:
        raise NotFound(f"the model '{shorten(model)}' is not loaded")
    return places[model]


def _is_below(url: str, folder: str) -> bool:
    """Return whether a path exists and, with its links resolved, is in the folder."""
    if not os.path.isabs(url) or "\0" in url:
        return False
    top, path = os.path.realpath(folder), os.path.realpath(url)
    return os.path.exists(path) and path != top and os.path.commonpath([top, path]) == top


def _answer(document: dict[str, str]) -> Response:
    return Response(dumps(document), media_type="application/json")
