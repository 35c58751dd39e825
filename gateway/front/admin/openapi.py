"""Adds the hot routes to the OpenAPI document: FastAPI does not know them, so each dialect describes its own."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI


def document_hot_paths(app: FastAPI, described: Iterable[Mapping[str, Any]]) -> None:
    """`described` has the hot paths of each dialect."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # FastAPI's status for invalid requests; this app answers 400
        for paths in described:
            schema["paths"].update(paths)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
