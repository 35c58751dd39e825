"""A handwritten FastAPI server for a model: a pydantic body in, ONNX Runtime in the same process, JSON out.

python -m benchmarks.references.fastapi_json MODEL.onnx
"""

import sys

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.references.serve import serve, session


class Request(BaseModel):
    inputs: list[list[float]]


class Response(BaseModel):
    outputs: list[list[float]]


class Nested(BaseModel):
    """The body of a request with images, because pydantic has no type for arrays of any rank."""

    inputs: list[list[list[list[float]]]]


def build(model: ort.InferenceSession) -> FastAPI:
    app = FastAPI()
    name = model.get_inputs()[0].name

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        (result,) = model.run(None, {name: np.array(request.inputs, np.float32)})
        return Response(outputs=result.tolist())

    @app.post("/threads")
    def in_a_thread(request: Request) -> Response:
        """Run the model in a thread, as FastAPI's documentation advises for calls that would block the event loop."""
        (result,) = model.run(None, {name: np.array(request.inputs, np.float32)})
        return Response(outputs=result.tolist())

    @app.post("/image")
    async def image(request: Nested) -> Response:
        (result,) = model.run(None, {name: np.array(request.inputs, np.float32)})
        return Response(outputs=result.tolist())

    return app


if __name__ == "__main__":
    serve(build(session(sys.argv[1])))
