"""The hot REST routes: which dialect a path speaks.

    POST /v2/models/{model}[/versions/{version}]/infer
    POST /predict[/{model}[/versions/{version}]]
    POST /v1/models/{model}[/versions/{version}|/labels/{label}]:predict|:classify|:regress
    POST, PUT /predictions/{model}[/{version}]       TorchServe's

Dialects translate only: the engine does the work, and exchange.py drives each request through.
"""

from urllib.parse import unquote

from gateway.front.base.dialect import Route
from gateway.front.dialects.registry import DIALECTS

_MATCH = {dialect.root: dialect.match for dialect in DIALECTS}


def match(url: bytes) -> Route | None:
    """The hot route of a request's target, or None."""
    path = url.partition(b"?")[0].decode("latin-1")
    if "%" in path:
        path = unquote(path)
    match path.split("/"):
        case ["", root, *parts] if root in _MATCH:
            return _MATCH[root](parts)
    return None
