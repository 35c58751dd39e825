"""Compares TorchServe's answers with those of the runtime `python`, for a handler in an archive of its archiver.

    PYTHON torchserve_handler_script.py CHECKOUT PACKAGES ARCHIVER

PACKAGES: a site-packages folder with torchserve. The reference is what TorchServe's worker sends to its frontend.
"""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

HANDLER = """
import torch
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException

class Echo(BaseHandler):
    def preprocess(self, data):
        self.rows = [row.get("data") or row.get("body") for row in data]
        return torch.tensor([[float(len(row)), 1.0] for row in self.rows])

    def postprocess(self, scores):
        found = []
        for index, (row, score) in enumerate(zip(self.rows, scores.tolist())):
            kind = self.context.get_request_header(index, "kind")
            if kind == "refuse":
                raise PredictionException("refused", 422)
            if kind == "status":
                self.context.set_response_status(418, "", index)
            values = {"bytes": bytearray(b"\\x00" + str(row).encode()), "text": "\\u00fc", "tensor": scores[index]}
            default = {"scores": score, "row": str(row), "batch": self.context.system_properties["batch_size"]}
            found.append(values.get(kind, {**default, "config": self.context.model_yaml_config["own"]}))
        return found
"""
KINDS = [
    ("", "", b"abc"), ("json", "application/json", b'{"k": [1, 2]}'), ("text", "", b"t"), ("bytes", "", b"b"),
    ("tensor", "", b"t"), ("status", "text/plain", b"s"), ("float", "application/json", b"[]x"),
]  # fmt: skip


def archive(archiver: str) -> Path:
    Path("echo.py").write_text(HANDLER)
    Path("model-config.yaml").write_text("batchSize: 2\nown: {key: [1, a]}\n")
    torch.jit.trace(torch.nn.Softmax(1), torch.zeros(1, 2)).save("net.pt")
    command = [archiver, "--model-name", "echo", "--version", "1.0", "--serialized-file", "net.pt"]
    subprocess.run([*command, "--handler", "echo.py", "--config-file", "model-config.yaml"], check=True)
    with zipfile.ZipFile("echo.mar") as opened:
        opened.extractall("echo")
    return Path("echo").absolute()


def references(folder: Path) -> "list[bytes]":
    """Return the messages of TorchServe's worker, one for each request."""
    import ts
    from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
    from ts.model_loader import TsModelLoader

    metrics = MetricsCacheYamlImpl(os.path.join(os.path.dirname(ts.__file__), "configs", "metrics.yaml"))
    metrics.initialize_cache()
    sys.path.insert(0, str(folder))
    service = TsModelLoader().load("echo", str(folder), "echo.py", None, 2, None, True, metrics)
    service.set_cl_socket(None)
    del sys.modules["echo"]
    sys.path.remove(str(folder))
    messages = []
    for kind, content_type, body in KINDS:
        value = json.loads(body) if kind == "json" else body.decode() if kind == "status" else bytearray(body)
        parameter = {"name": "body", "contentType": content_type, "value": value}
        headers = [{"name": b"kind", "value": kind.encode()}]
        messages.append(service.predict([{"requestId": b"1", "headers": headers, "parameters": [parameter]}]))
    return [bytes(message) for message in messages]


sys.path[:0] = [sys.argv[1]]
sys.path.append(sys.argv[2])

from runtimes.contract import InvalidInput, LoadOptions, Request  # noqa: E402
from runtimes.http_messages import BODY, HEADERS, RESPONSE, RESPONSE_HEADERS, STATUS, pack_headers  # noqa: E402
from runtimes.python.runtime import load  # noqa: E402

folder = archive(sys.argv[3])
expected = references(folder)
model = load(LoadOptions(str(folder / "MAR-INF" / "MANIFEST.json"), name="echo", max_rows=2))


def request(body: bytes, headers: "dict[str, str]") -> Request:
    return Request({BODY: np.array([body], object), HEADERS: np.array([pack_headers(headers)], object)})


batch = [request(body, {"content-type": content_type, "kind": kind}) for kind, content_type, body in KINDS]
for (kind, _, _), message, answer in zip(KINDS, expected, model.infer_requests(batch, "default"), strict=True):
    assert isinstance(answer, dict), answer
    headers = json.loads(answer[RESPONSE_HEADERS][0])
    assert message.startswith((200).to_bytes(4, "big")), message
    if kind == "tensor":  # TorchServe saves the memory of the whole batch with it
        saved = torch.load(io.BytesIO(message[message.index(b"PK") : -4]))
        assert torch.equal(torch.load(io.BytesIO(answer[RESPONSE][0])), saved)
        continue
    assert len(answer[RESPONSE][0]).to_bytes(4, "big") + answer[RESPONSE][0] in message, kind
    assert headers[STATUS] == ("418" if kind == "status" else "200"), headers
(alone,) = model.infer_requests([batch[0]._replace(inputs={BODY: np.array([b"abc"] * 5, object)})], "default")
assert isinstance(alone, dict)
assert list(alone[RESPONSE]) == [model.infer_requests([batch[0]], "default")[0][RESPONSE][0]] * 5
assert list(alone) == [RESPONSE]
try:
    model.infer_requests([request(b"r", {"kind": "refuse"})], "default")
except InvalidInput as error:
    assert str(error) == "refused"
else:
    raise AssertionError("a PredictionException is an error of the request")
print(f"answers of {len(KINDS)} kinds are the same")
