"""The hot routes in OpenAPI: rest.py serves them before FastAPI sees them, so they are written by hand."""

from gateway.front.dialects.plain.openapi import _predict
from gateway.front.dialects.tfserving.openapi import _PATHS
from gateway.front.dialects.torchserve.openapi import _predictions
from gateway.front.dialects.v2.openapi import _infer

HOT_PATHS = {
    path: make(name, path)
    for name, path, make in (
        ("infer", "/v2/models/{model}/infer", _infer),
        ("infer_version", "/v2/models/{model}/versions/{version}/infer", _infer),
        ("predict", "/predict", _predict),
        ("predict_model", "/predict/{model}", _predict),
        ("predict_version", "/predict/{model}/versions/{version}", _predict),
        *_PATHS,
        ("predictions", "/predictions/{model}", _predictions),
        ("predictions_version", "/predictions/{model}/{version}", _predictions),
    )
}
