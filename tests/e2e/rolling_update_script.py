"""Steady load by Triton's clients: rolling_update_script.py HTTP GRPC …, pairs of addresses of the same service.

Prints a line when every client has had an answer, goes on until its input ends, and prints the numbers of requests and
what failed, as JSON.
"""

import json
import sys
import threading
import time

import numpy as np
import tritonclient.grpc
import tritonclient.http

PAUSE_S = 0.002
TIMEOUT_S = 20.0
IMAGE = np.zeros((1, 64), np.float32)


def ask(module, client, versions):
    tensor = module.InferInput("image", [1, 64], "FP32")
    tensor.set_data_from_numpy(IMAGE)
    options = {"client_timeout": TIMEOUT_S} if module is tritonclient.grpc else {}
    answer = client.infer("digits", [tensor], **options)
    response = answer.get_response()
    versions.add(response["model_version"] if isinstance(response, dict) else response.model_version)


def load(module, address, found, first, ended):
    # One connection each, which is kept open.
    if module is tritonclient.http:
        client = module.InferenceServerClient(address, network_timeout=TIMEOUT_S)
    else:
        client = module.InferenceServerClient(address)
    while not ended.is_set():
        try:
            ask(module, client, found["versions"])
        except Exception as error:
            found["failures"].append(f"{module.__name__} after {found['requests']}: {error!r}")
        found["requests"] += 1
        first.set()
        time.sleep(PAUSE_S)


ended = threading.Event()
threads, results = [], []
for position, address in enumerate(sys.argv[1:]):
    module = (tritonclient.http, tritonclient.grpc)[position % 2]
    for _ in range(4):
        found, first = {"requests": 0, "failures": [], "versions": set(), "address": address}, threading.Event()
        results.append(found)
        threads.append((threading.Thread(target=load, args=(module, address, found, first, ended)), first))
for thread, _ in threads:
    thread.start()
for _, first in threads:
    first.wait()
print("running", flush=True)
sys.stdin.read()
ended.set()
for thread, _ in threads:
    thread.join()
print(json.dumps([{**found, "versions": sorted(found["versions"])} for found in results]))
