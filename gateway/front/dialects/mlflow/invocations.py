"""MLflow's scoring protocol, POST /invocations, which is also what SageMaker and Vertex AI send.

    {"dataframe_split": {"columns": […], "data": [[…], …]}}   a table
    {"dataframe_records": [{column: value, …}, …]}            a table
    {"inputs": …}       values, {name: values}, or a table: {column: values} or a list of records
    {"instances": […]}  rows: values, or {name: values} each
    CSV                 a table; the first line has the names of the columns

A request in JSON may also have "params", for models of MLflow that have some. The answer is {"predictions": …}: values,
{name: values}, or a list of {name: value} for tables of models whose outputs are columns.

Vertex AI sends "instances" and "parameters", and gets one prediction for each instance.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gateway.codecs.json_tensors import guess_tensor, json_values, read_tensor
from gateway.codecs.json_text import dumps, loads, numbers, without_nulls
from gateway.codecs.media_types import media_type
from gateway.codecs.npy import NPY, read_npy
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.protocol import Engine
from gateway.engine.validate import unknown_input
from gateway.errors import InvalidRequest, ModelportError, TooLarge, shorten
from gateway.front.base.body import Headers
from gateway.front.base.client_errors import client_message
from gateway.front.base.limits import MAX_OBJECTS, Limits, check_json_answer
from gateway.front.base.named_inputs import find_signature, only_input
from gateway.front.base.named_outputs import are_named
from gateway.front.dialects.mlflow.table import Table, from_csv, from_records, from_rows, from_split, read_table
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Buffer, Tensor, to_array, widened

Write = Callable[[InferResponse], bytes]

CSV = "text/csv"
_JSON = ("", "application/json", "application/x-www-form-urlencoded", "text/plain")
_FORMATS = ("dataframe_split", "dataframe_records", "inputs", "instances")
# The names that MLflow gives to errors, by status.
_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    413: "RESOURCE_EXHAUSTED",
    429: "REQUEST_LIMIT_EXCEEDED",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    507: "RESOURCE_EXHAUSTED",
}


def encode_error(error: ModelportError) -> bytes:
    return dumps({"error_code": _CODES.get(error.status, "INTERNAL_ERROR"), "message": client_message(error)})


def choose_model(engine: Engine, target: str) -> str:
    """Return the model of a request: `target`, if its header names one. Raises InvalidRequest."""
    if target:
        return target.removesuffix(".tar.gz")
    if engine.deployment.model:
        return engine.deployment.model
    names = {status.name for status in engine.models()}
    if len(names) == 1:
        return names.pop()
    raise InvalidRequest(
        "the server does not have exactly one model, so the request must say which; send it to /predict/{model}, add "
        "the header X-Amzn-SageMaker-Target-Model, or start the server with --invocations-model"
    )


def is_npy(content_type: str) -> bool:
    return media_type(content_type) == NPY


def read_request(
    engine: Engine, model: str, body: Buffer, headers: Headers, limits: Limits, by_instance: bool
) -> tuple[InferRequest, Write]:
    """Return the request, and the function that writes its answer.

    by_instance  whether the request is Vertex AI's, and the answer a list with a prediction for each instance

    Raises InvalidRequest, NotFound, Unavailable.
    """
    status = engine.model(model)
    signature = find_signature(status, "")
    kind = media_type(headers.content_type)
    if kind == NPY:
        params = _params_of(status)
        rest = signature._replace(inputs=tuple(spec for spec in signature.inputs if spec.name not in params))
        return InferRequest(model, [read_npy(only_input(rest, model), body)]), partial(_write, status, limits, False)
    if kind == CSV:
        has_header = "header=absent" not in headers.content_type.replace(" ", "").lower()
        inputs = _from_table(from_csv(body, has_header), status, signature, positional=not has_header)
        return InferRequest(model, inputs), partial(_write, status, limits, True)
    if kind not in _JSON:
        raise InvalidRequest(f"content type '{shorten(kind)}' is not supported; send application/json, {CSV} or {NPY}")
    document = loads(body)
    inputs, is_table = _read_document(document, status, signature, by_instance)
    if by_instance:
        request = InferRequest(model, inputs)
        has_names = are_named(status, request)
        return request, partial(_write_instances, limits, len(document["instances"]), has_names)
    return InferRequest(model, inputs), partial(_write, status, limits, is_table)


def _params_of(status: ModelStatus) -> Sequence[str]:
    return status.table.params if status.table else ()


def _read_document(
    document: Any, status: ModelStatus, signature: Signature, by_instance: bool
) -> tuple[list[Tensor], bool]:
    """Return the inputs, and whether they were a table."""
    formats, params_key = (("instances",), "parameters") if by_instance else (_FORMATS, "params")
    expected = f"{', '.join(map(repr, formats[:-1]))} or '{formats[-1]}'" if formats[1:] else f"'{formats[0]}'"
    if not isinstance(document, dict):
        raise InvalidRequest(f"the body must be a JSON object with {expected}")
    document = without_nulls(document)
    for key in document:
        if key not in (*formats, params_key):
            raise InvalidRequest(f"the body has the unknown key '{shorten(key)}'; send {expected}, and '{params_key}'")
    given = [key for key in formats if key in document]
    if len(given) != 1:
        raise InvalidRequest(f"the body must have exactly one of {expected}")
    inputs, is_table = _read_data(given[0], document[given[0]], status, signature)
    return [*inputs, *_params(document.get(params_key, {}), params_key, status, signature)], is_table


def _read_data(key: str, data: Any, status: ModelStatus, signature: Signature) -> tuple[list[Tensor], bool]:
    if key == "dataframe_split":
        return _from_table(from_split(data), status, signature), True
    names = [*(status.table.columns if status.table else ()), *(spec.name for spec in signature.inputs)]
    if key == "dataframe_records":
        return _from_table(from_records(data, f"'{key}'", names), status, signature), True
    if key == "instances" and not isinstance(data, list):
        raise InvalidRequest("'instances' must be a list of rows")
    specs = _specs(status, signature)
    if isinstance(data, list) and data and isinstance(data[0], dict) and not _is_binary(data[0], specs):
        return _from_table(from_records(data, f"'{key}'", names), status, signature), _has_columns(status)
    if isinstance(data, dict) and not _is_binary(data, specs):
        return _from_columns(data, status, signature), _has_columns(status)
    if _has_columns(status) and isinstance(data, list) and data and isinstance(data[0], list):
        table = from_rows(data, None, f"'{key}'")
        return _from_table(table, status, signature, positional=True), True
    if status.table is not None and len(status.table.columns) == 1 and isinstance(data, list) and data:
        return _from_table(Table({next(iter(status.table.columns)): data}), status, signature), True
    only = only_input(signature._replace(inputs=tuple(specs)), status.name)
    return [_tensor(next(spec for spec in specs if spec.name == only), data)], _has_columns(status)


def _has_columns(status: ModelStatus) -> bool:
    return status.table is not None and bool(status.table.columns)


def _is_binary(value: dict[str, Any], specs: Sequence[TensorSpec]) -> bool:
    """Whether {"b64": …} is an encoded string and not the value of an input with that name."""
    return value.keys() == {"b64"} and all(spec.name != "b64" for spec in specs)


def _specs(status: ModelStatus, signature: Signature) -> list[TensorSpec]:
    """Return the inputs, without those that are params."""
    params = _params_of(status)
    return [spec for spec in signature.inputs if spec.name not in params]


def _tensor(spec: TensorSpec, data: Any) -> Tensor:
    return read_tensor(spec.name, data, spec.datatype) if spec.datatype else guess_tensor(spec.name, data)


def _from_columns(data: dict[str, Any], status: ModelStatus, signature: Signature) -> list[Tensor]:
    """Read {name: values}, which are columns of a table for a model that has columns, and tensors for others."""
    if _has_columns(status):
        columns = {name: values if isinstance(values, list) else [values] for name, values in data.items()}
        lengths = set(map(len, columns.values()))
        if len(lengths) > 1 or 0 in lengths:
            raise InvalidRequest(f"the columns must have equally many values, but they have {sorted(lengths)[:5]}")
        return _from_table(Table(columns), status, signature)
    specs = {spec.name: spec for spec in signature.inputs + signature.unbatched}
    for name in data:
        if name not in specs:
            raise unknown_input(name, status.name, specs)
    return [_tensor(specs[name], values) for name, values in data.items()]


def _from_table(table: Table, status: ModelStatus, signature: Signature, positional: bool = False) -> list[Tensor]:
    """positional: whether the columns have no names, and are in the order of the model's."""
    specs = _specs(status, signature)
    if positional:
        names = list(status.table.columns) if status.table and status.table.columns else [spec.name for spec in specs]
        if len(names) > 1 and len(names) != len(table.columns):
            raise InvalidRequest(f"each row must have {len(names)} values, one for each of {shorten(', '.join(names))}")
        if len(names) == len(table.columns):
            table = table._replace(columns=dict(zip(names, table.columns.values(), strict=True)))
    return read_table(table, specs, signature.optional, status.table)


def _params(params: Any, key: str, status: ModelStatus, signature: Signature) -> list[Tensor]:
    if not isinstance(params, dict):
        raise InvalidRequest(f"'{key}' must be an object")
    known = _params_of(status)
    specs = {spec.name: spec for spec in signature.inputs if spec.name in known}
    for name in params:
        if name not in specs:
            has = f"it has {', '.join(specs)}" if specs else "it has none"
            raise InvalidRequest(f"model '{status.name}' has no param '{shorten(name)}'; {has}")
    return [_tensor(specs[name], value) for name, value in params.items() if value is not None]


def _write(status: ModelStatus, limits: Limits, is_table: bool, response: InferResponse) -> bytes:
    outputs, table = response.outputs, status.table
    check_json_answer(outputs, limits)
    if is_table and table is not None and table.records and _are_columns(outputs):
        return dumps({"predictions": _rows([each._replace(shape=each.shape[:1]) for each in outputs])})
    is_unnamed = table.unnamed if table is not None else outputs[:1] and outputs[0].name == "OUTPUT__0"
    if len(outputs) == 1 and is_unnamed:
        return dumps({"predictions": json_values(outputs[0])})
    return dumps({"predictions": {each.name: json_values(each) for each in outputs}})


def _are_columns(outputs: Sequence[Tensor]) -> bool:
    """Whether each output has one value for each row, of equally many."""
    rows = {each.shape[:1] for each in outputs}
    return len(rows) == 1 and all(each.shape and each.shape[1:] in ((), (1,)) for each in outputs)


def _write_instances(limits: Limits, instances: int, has_names: bool, response: InferResponse) -> bytes:
    """Write one prediction for each instance. Raises InvalidRequest if the outputs do not have that many rows."""
    outputs = response.outputs
    check_json_answer(outputs, limits)
    for each in outputs:
        if each.shape[:1] != (instances,):
            raise InvalidRequest(
                f"output '{each.name}' has shape {list(each.shape)} for {instances} instances, so it does not say "
                "which is whose; send each instance alone, or another request than Vertex AI's"
            )
    if len(outputs) == 1 and not has_names:
        return dumps({"predictions": json_values(outputs[0])})
    return dumps({"predictions": _rows(outputs) if outputs else [{}] * instances})


def _rows(outputs: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Return {name: value} for each row of some outputs, as `dumps` writes them. Raises TooLarge."""
    count = outputs[0].shape[0]
    if count * len(outputs) > MAX_OBJECTS:
        raise TooLarge(
            f"the answer has {count} rows of {len(outputs)} outputs, over the limit of {MAX_OBJECTS} values in rows; "
            "send fewer rows"
        )
    names = [each.name for each in outputs]
    columns = [_elements(each) for each in outputs]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _elements(tensor: Tensor) -> list[Any]:
    """Return the rows of a tensor, as `dumps` writes them."""
    if tensor.datatype == "BYTES":
        values: list[Any] = json_values(tensor)
        return values
    return [numbers(row) for row in widened(to_array(tensor))]
