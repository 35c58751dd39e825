#!/usr/bin/env bash
# tritonclient 2.73.0: infer() of the HTTP client writes a header of its own into the dictionary that the caller passes as
# `headers`: Inference-Header-Content-Length, an integer that belongs to that request's body. Whoever
# keeps one dictionary with its token for all calls sends the stale header with the next call that is not infer(), and
# the same dictionary can no longer be passed to tritonclient.grpc, whose metadata must be strings.
#
# Seen: {'authorization': 'Bearer key'} has two entries after one infer(); is_server_live() then sends the length of
# the earlier request's JSON; tritonclient.grpc refuses the dictionary: "Expected str, not <class 'int'>".
# Fails if the dictionary stays as it was.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tritonclient[http,grpc]==2.73.0' numpy==2.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import tritonclient.grpc
import tritonclient.http

received = []


class Server(BaseHTTPRequestHandler):
    """Answers as a v2 server does, and keeps the headers."""

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        received.append(dict(self.headers))
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b'{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1]}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.server_port}")
headers = {"authorization": "Bearer key"}
x = tritonclient.http.InferInput("x", [1], "FP32")
x.set_data_from_numpy(np.ones(1, np.float32))
client.infer("m", [x], headers=headers)
print("after infer():", headers)
client.is_server_live(headers=headers)
print("sent by is_server_live():", {k: v for k, v in received[-1].items() if k.lower().startswith("inference")})
try:
    tritonclient.grpc.InferenceServerClient("127.0.0.1:1").is_server_live(headers=headers)
    refused = ""
except Exception as error:
    refused = f"{type(error).__name__}: {error}"
print("tritonclient.grpc:", refused)
assert len(headers) > 1, "the dictionary is no longer changed"
assert any(k.lower() == "inference-header-content-length" for k in received[-1]), "the stale header is no longer sent"
PYTHON
