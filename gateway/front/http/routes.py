"""The hot REST routes: which dialect a path speaks, and how that dialect reads requests and writes answers.

    POST /v2/models/{model}[/versions/{version}]/infer
    POST /predict[/{model}[/versions/{version}]]
    POST /v1/models/{model}[/versions/{version}|/labels/{label}]:predict|:classify|:regress
    POST, PUT /predictions/{model}[/{version}]       TorchServe's

It translates only: v2_*, predict, image_request, tfs_* and torchserve know the dialects, the engine does
the work, and exchange.py drives each request through.
"""

from urllib.parse import unquote

from gateway.front.base.dialect import Route
from gateway.front.dialects.plain.rest import PREDICT
from gateway.front.dialects.tfserving import rest
from gateway.front.dialects.torchserve.rest import TORCHSERVE
from gateway.front.dialects.v2.rest import V2


def match(url: bytes) -> Route | None:
    """The hot route of a request's target, or None."""
    path = url.partition(b"?")[0].decode("latin-1")
    if "%" in path:
        path = unquote(path)
    match path.split("/"):
        case ["", "v2", "models", model, "infer"] if model:
            return Route(V2, model)
        case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
            return Route(V2, model, version)
        case ["", "predict"]:
            return Route(PREDICT)
        case ["", "predict", model] if model:
            return Route(PREDICT, model)
        case ["", "predict", model, "versions", version] if model and version:
            return Route(PREDICT, model, version)
        case ["", "predictions", model] if model:
            return Route(TORCHSERVE, model)
        case ["", "predictions", model, version] if model and version:
            return Route(TORCHSERVE, model, version)
        case ["", "v1", "models", *named]:
            return rest.match(named)
    return None
