"""The hot routes in OpenAPI: they are served before FastAPI sees them, so each dialect describes its own by hand."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI


def document_hot_paths(app: FastAPI, described: Iterable[Mapping[str, Any]]) -> None:
    """`described`: the hot paths of each dialect."""
    own = app.openapi

    def openapi() -> dict[str, Any]:
        schema = own()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # FastAPI's own; here what is wrong is 400
        for paths in described:
            schema["paths"].update(paths)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
