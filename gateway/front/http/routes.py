"""The hot REST routes: which dialect a path belongs to.

    POST /v2/models/{model}[/versions/{version}]/infer
    POST /predict[/{model}[/versions/{version}]]
    POST /v1/models/{model}[/versions/{version}|/labels/{label}]:predict|:classify|:regress
    POST, PUT /predictions/{model}[/{version}]       TorchServe's
    POST /invocations, /models/{model}/invoke        MLflow's and SageMaker's

Dialects only translate. The engine does the work, and hot_request.py drives each request.
"""

from urllib.parse import unquote

from gateway.front.base.dialect import Route
from gateway.front.dialects.predict_route import PREDICT
from gateway.front.dialects.registry import DIALECTS

_MATCHERS = {dialect.root: dialect.match for dialect in DIALECTS}


def match(url: bytes, predict_route: str = "") -> Route | None:
    """Return the hot route of a request target, or None.

    predict_route  a further path for predictions, which a platform has chosen
    """
    path = url.partition(b"?")[0].decode("latin-1")
    if "%" in path:
        path = unquote(path)
    if predict_route and path == predict_route:
        return Route(PREDICT, path=path)
    match path.split("/"):
        case ["", root, *parts] if root in _MATCHERS:
            route = _MATCHERS[root](parts)
            return None if route is None else route._replace(path=path)
    return None
