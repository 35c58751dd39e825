"""A handwritten FastAPI server for a model: the bytes of one float32 row in, the bytes of the answer out.

python -m benchmarks.references.fastapi_raw MODEL.onnx
"""

import sys

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, Request, Response

from benchmarks.references.serve import serve, session


def build(model: ort.InferenceSession) -> FastAPI:
    app = FastAPI()
    (described,) = model.get_inputs()
    shape = [1, *described.shape[1:]]

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        array = np.frombuffer(await request.body(), np.float32).reshape(shape)
        (result,) = model.run(None, {described.name: array})
        return Response(result.tobytes(), media_type="application/octet-stream")

    return app


if __name__ == "__main__":
    serve(build(session(sys.argv[1])))
