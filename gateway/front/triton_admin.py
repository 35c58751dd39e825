"""What Triton's clients ask for beside inference: paths of the FastAPI app."""

from typing import Any

from fastapi import FastAPI

from gateway.engine.protocol import Engine
from gateway.front.triton_config import as_json, read_configuration


def add_model_configuration(app: FastAPI, engine: Engine) -> None:
    @app.get("/v2/models/{model}/config", tags=["models"])
    @app.get("/v2/models/{model}/versions/{version}/config", tags=["models"])
    async def config(model: str, version: str = "") -> dict[str, Any]:
        """How the model is served, in the form of Triton's config.pbtxt; dims are without the batch dimension."""
        return as_json(await read_configuration(engine, model, version))
