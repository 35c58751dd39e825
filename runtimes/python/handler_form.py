"""Handlers of TorchServe and Multi Model Server, loaded and called by these servers' own packages, `ts` and `mms`.

A handler gets a list of requests and returns a list of answers (runtimes/http_messages.py). It runs in a folder of its
own with links to the archive's files, because some handlers write next to them.
"""

import importlib
import io
import json
import os
import sys
import tempfile
import uuid
from itertools import takewhile
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from runtimes.checks import declared_inputs, declared_outputs, given_inputs, wanted_outputs
from runtimes.contract import BatchAnalysis, InvalidInput, LoadError, LoadOptions, Model, ModelFailed, Request
from runtimes.http_messages import (
    BODY,
    HEADERS,
    RESPONSE,
    RESPONSE_HEADERS,
    SIGNATURE,
    STATUS,
    pack_headers,
    unpack_headers,
)

from .http_body import Field, read_fields


class Message(NamedTuple):
    """A request as a handler's server gets it. `fields` are those of the body."""

    id: str
    headers: Dict[str, str]
    body: bytes
    fields: List[Field]


class Answer(NamedTuple):
    body: bytes
    headers: Dict[str, str]


# Calls a handler for one request or more. Returns as many answers. Raises what the handler raises.
Call = Callable[[Sequence[Message]], List[Answer]]


class HandlerModel(Model):
    takes_requests = True

    def __init__(self, options: LoadOptions, call: Call) -> None:
        self._call, self._max_rows = call, options.max_rows or 1
        self._signature = SIGNATURE._replace(
            inputs=declared_inputs(options.inputs, SIGNATURE.inputs),
            outputs=declared_outputs(options.outputs, SIGNATURE.outputs),
        )
        self.signatures = {"default": self._signature}

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        if self._max_rows == 1:
            return BatchAnalysis(alone="the handler's batch size is 1")
        return BatchAnalysis(unknown=("a program has no graph to read",), max_rows=self._max_rows)

    def infer_requests(
        self, requests: Sequence[Request], signature: str
    ) -> Sequence[Union[Dict[str, np.ndarray], Exception]]:
        answers = [None] * len(requests)  # type: List[Any]
        messages = []  # type: List[Message]
        for index, request in enumerate(requests):
            try:
                found = self._messages(request)
            except InvalidInput as error:
                answers[index] = error
                continue
            answers[index] = slice(len(messages), len(messages) + len(found))
            messages += found
        returned = []  # type: List[Answer]
        while len(returned) < len(messages):
            returned += self._call(_alike(messages[len(returned) : len(returned) + self._max_rows]))
        return [
            answer if isinstance(answer, Exception) else self._outputs(request, returned[answer])
            for request, answer in zip(requests, answers)
        ]

    def _messages(self, request: Request) -> List[Message]:
        """Return the rows of a request. Raises InvalidInput."""
        given = given_inputs(self._signature, request.inputs)
        bodies = given[BODY]
        packed = given.get(HEADERS)
        if packed is not None and packed.shape != bodies.shape:
            raise InvalidInput("inputs '%s' and '%s' must have equally many rows" % (BODY, HEADERS))
        headers = [{}] * len(bodies) if packed is None else [unpack_headers(each) for each in packed]
        return [
            Message(request.id or uuid.uuid4().hex, each, body, read_fields(body, each.get("content-type", "")))
            for body, each in zip(bodies, headers)
        ]

    def _outputs(self, request: Request, answers: Sequence[Answer]) -> Dict[str, np.ndarray]:
        default = self._signature.outputs_from(request.inputs)
        rows = {
            RESPONSE: [answer.body for answer in answers],
            RESPONSE_HEADERS: [pack_headers(answer.headers) for answer in answers],
        }
        found = {}
        for name in wanted_outputs(request.outputs, default):
            found[name] = np.empty(len(answers), object)
            found[name][:] = rows[name]
        return found


def _alike(messages: List[Message]) -> List[Message]:
    """Return those at the beginning that may be answered together.

    TorchServe's BaseHandler reads from the first request of a batch whether all of them ask for explanations.
    """
    wanted = messages[0].headers.get("explain")
    return list(takewhile(lambda message: message.headers.get("explain") == wanted, messages))


def load(options: LoadOptions) -> HandlerModel:
    """Load the handler that a manifest names. Raises LoadError."""
    folder = linked_folder(os.path.dirname(os.path.dirname(options.artifact)))
    with open(options.artifact, encoding="utf-8") as file:
        manifest = json.load(file)
    model = manifest["model"]
    enter(folder)
    import_program(folder, str(model["handler"]).split(":")[0])
    is_torchserve = "archiverVersion" in manifest or "serializedFile" in model
    server = _server("ts" if is_torchserve else "mms", folder, model, options)
    return HandlerModel(options, server.call)


def linked_folder(source: str) -> str:
    """Return a new folder with links to the files of another. What is written in it stays there."""
    folder = tempfile.mkdtemp(prefix="model-")
    for path, folders, files in os.walk(source):
        inner = os.path.join(folder, os.path.relpath(path, source))
        links = [name for name in folders if os.path.islink(os.path.join(path, name))]  # which walk does not enter
        for name in set(folders).difference(links):
            os.mkdir(os.path.join(inner, name))
        for name in files + links:
            os.symlink(os.path.join(path, name), os.path.join(inner, name))
    return folder


def enter(folder: str) -> None:
    """Prepare the process for a handler, which may open files by relative names, and import those next to it."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, folder)
    os.chdir(folder)


def import_program(folder: str, name: str) -> Any:
    """Import a program of the archive, if it is one: TorchServe's own handlers are in its package. Raises LoadError."""
    module = os.path.basename(name[:-3] if name.endswith(".py") else name)
    if not os.path.isfile(os.path.join(folder, module + ".py")):
        return None
    return guarded(lambda: importlib.import_module(module), "the handler's program %s.py" % module)


def guarded(load: Callable[[], Any], what: str) -> Any:
    """Return what `load` returns. Raises LoadError for the usual faults of a program."""
    try:
        return load()
    except ModuleNotFoundError as error:
        raise LoadError(
            "%s imports '%s', which its environment does not have: name its package in the archive's requirements.txt"
            % (what, error.name)
        ) from error
    except SyntaxError as error:
        raise LoadError("%s is not Python, line %s: %s" % (what, error.lineno, error.msg)) from None
    except SystemExit as error:
        raise LoadError("%s ends the process when it is loaded" % what) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        raise LoadError(
            "%s imports torchvision, but the wheel that pip has found is for another build of PyTorch: %s"
            % (what, error)
        ) from error


class _Server:
    """A handler as its server's package has loaded it: `service` is that package's Service."""

    def __init__(self, service: Any, metrics: Callable[[Dict[int, str]], Any], refused: Any) -> None:
        self._service, self._metrics, self._refused = service, metrics, refused

    def call(self, messages: Sequence[Message]) -> List[Answer]:
        """Raises ValueError if the handler does not return one answer for each message."""
        batch = [
            {
                "requestId": message.id.encode(),
                "headers": [
                    {"name": name.encode(), "value": value.encode()} for name, value in message.headers.items()
                ],
                "parameters": [
                    {"name": field.name, "contentType": field.content_type, "value": field.value()}
                    for field in message.fields
                ],
            }
            for message in messages
        ]
        processors, data, ids = self._service.retrieve_data_for_inference(batch)
        for processor in processors:
            processor._request_header = _Headers(processor._request_header)
        context = self._service.context
        context.request_ids, context.request_processor, context.metrics = ids, processors, self._metrics(ids)
        try:
            returned = self._service._entry_point(data, context)
        except self._refused as error:
            kind = InvalidInput if 400 <= int(error.error_code) < 500 else ModelFailed
            raise kind(str(error.message)) from error
        except SystemExit as error:
            raise RuntimeError("the handler has called sys.exit") from error
        if not isinstance(returned, list) or len(returned) != len(messages):
            what = "%d answers" % len(returned) if isinstance(returned, list) else "%s" % type(returned).__name__
            raise ValueError("the handler returned %s for %d requests, not a list of as many" % (what, len(messages)))
        return [_answer(each, context, index) for index, each in enumerate(returned)]


class _Headers(Dict[str, Any]):
    """The headers of a request, whose names clients may write in any case."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, super().get(name.lower(), default))


def _server(package: str, folder: str, model: Dict[str, Any], options: LoadOptions) -> _Server:
    """Raises LoadError."""
    handler, gpu, rows = str(model["handler"]), 0 if options.device == "cuda" else None, options.max_rows or 1
    what = "its handler %s" % handler
    if package == "mms":
        from mms.metrics.metrics_store import MetricsStore
        from mms.model_loader import MmsModelLoader
        from mms.service import PredictionException

        service = guarded(lambda: MmsModelLoader().load(options.name, folder, handler, gpu, rows), what)
        return _Server(service, lambda ids: MetricsStore(ids, options.name), PredictionException)
    import ts
    from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
    from ts.model_loader import TsModelLoader
    from ts.utils.util import PredictionException as Refused

    metrics = MetricsCacheYamlImpl(os.path.join(os.path.dirname(ts.__file__), "configs", "metrics.yaml"))
    metrics.initialize_cache()
    metrics.model_name = options.name

    def with_ids(ids: Dict[int, str]) -> Any:
        metrics.request_ids = ids
        return metrics

    load = TsModelLoader().load
    service = guarded(
        lambda: load(options.name, folder, handler, gpu, rows, model.get("envelope"), True, metrics), what
    )
    return _Server(service, with_ids, Refused)


def _answer(value: Any, context: Any, index: int) -> Answer:
    """Return an answer as the servers write it, with the Content-Type of what it is unless the handler set one."""
    body, kind = encoded(value)
    given = {str(name).lower(): str(text) for name, text in context.get_response_headers(index).items()}
    status = context.get_response_status(index)[0] or 200
    return Answer(body, {"content-type": kind, **given, STATUS: str(status)})


def encoded(value: Any) -> Tuple[bytes, str]:
    """Return an answer as bytes, and its Content-Type. Raises TypeError if it cannot be written as JSON."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value), "application/octet-stream"
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    if type(value).__module__ == "torch" and type(value).__name__ == "Tensor":
        import torch

        buffer = io.BytesIO()
        torch.save(value.clone(), buffer)  # a row of a batch, as it is, would be saved with all rows of all clients
        return buffer.getvalue(), "application/octet-stream"
    return json.dumps(value, indent=2).encode(), "application/json"
