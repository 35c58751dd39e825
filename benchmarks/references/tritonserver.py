"""A real tritonserver with its Python backend, from the wheel nvidia-pytriton. ONNX Runtime runs the model.

It needs a separate environment: python -m venv triton && triton/bin/pip install nvidia-pytriton onnxruntime

    triton/bin/python benchmarks/references/tritonserver.py MODEL.onnx
"""

import socket
import sys
import threading

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def main():
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    takes, gives = session.get_inputs()[0], session.get_outputs()[0]

    @batch
    def infer(**inputs):
        return session.run(None, inputs)

    http, grpc = free_port(), free_port()
    config = TritonConfig(
        http_address="127.0.0.1", http_port=http, grpc_address="127.0.0.1", grpc_port=grpc, metrics_port=free_port()
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="tiny",
            infer_func=infer,
            inputs=[Tensor(name=takes.name, dtype=np.float32, shape=tuple(takes.shape[1:]))],
            outputs=[Tensor(name=gives.name, dtype=np.float32, shape=tuple(gives.shape[1:]))],
            config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher()),
        )
        triton.run()
        print(f"http {http}\ngrpc {grpc}\nserving", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
