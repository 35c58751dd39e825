"""Reads MLmodel, the file that describes a model which MLflow has saved.

flavors     how to load it: `python_function` with mlflow itself, and others such as `onnx` with their framework
signature   inputs, outputs and params, each of them as JSON in a string
"""

import json
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from gateway.domain.table_schema import TableSchema
from gateway.environments.mlflow_packages import MLMODEL
from gateway.environments.yaml_file import BrokenYaml, read_yaml
from runtimes.contract import TensorSpec, datatype_of

# Whose models return an array, whatever name their signature gives the column.
_ARRAY_LOADERS = ("mlflow.sklearn", "mlflow.xgboost", "mlflow.lightgbm", "mlflow.catboost", "mlflow.pytorch")


class MlModel(NamedTuple):
    """What is in an MLmodel, as far as it matters here.

    artifacts        files and folders that a runtime of their framework may read, the likeliest first
    inputs, outputs  for a runtime whose artifacts declare none; empty if the signature has none, or more than tensors
    table            how a table becomes inputs, if the model runs with mlflow
    native_table     the same, if a runtime of its framework reads it
    """

    artifacts: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    table: TableSchema
    native_table: TableSchema


def is_mlflow_model(folder: Path) -> bool:
    return (folder / MLMODEL).is_file()


def read_mlmodel(folder: Path) -> MlModel:
    """Read the MLmodel in a folder. Raises BrokenYaml."""
    status = os.stat(folder / MLMODEL)
    return _read(folder, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _read(folder: Path, modified_ns: int, size: int) -> MlModel:
    document = read_yaml(folder / MLMODEL)
    flavors = _mapping(document, "flavors")
    if not flavors:
        raise BrokenYaml(f"its {MLMODEL} has no flavors; save the model again with mlflow")
    loader = _text(_mapping(flavors, "python_function"), "loader_module")
    signature = _mapping(document, "signature")
    inputs, outputs, params = (_schema(signature, key) for key in ("inputs", "outputs", "params"))
    columns = {_text(each, "name"): _text(each, "type") for each in inputs if each.get("type") != "tensor"}
    if "" in columns:
        columns = {}  # one column without a name, which is an array to clients
    unnamed = len(outputs) == 1 and (not outputs[0].get("name") or loader in _ARRAY_LOADERS)
    are_rows = bool(columns) and not unnamed and all(each.get("type") != "tensor" for each in outputs)
    table = TableSchema(columns, tuple(_text(each, "name") for each in params), are_rows, unnamed or not outputs)
    native = table._replace(params=(), records=bool(columns), unnamed=unnamed or loader == "mlflow.pytorch")
    return MlModel(
        tuple(_artifacts(folder, flavors, loader)),
        _native_inputs(inputs),
        _native_tensors(outputs, "OUTPUT__%d"),
        table,
        native,
    )


def _artifacts(folder: Path, flavors: dict[str, Any], loader: str) -> Iterator[str]:
    """Yield the paths, relative to the folder, at which MLflow saves artifacts of frameworks.

    Only those of the flavor that mlflow itself would load: a model may have several, which need not answer alike.
    """
    own = loader.removeprefix("mlflow.")
    flavor = _mapping(flavors, own) if own else next((each for each in flavors.values() if isinstance(each, dict)), {})
    if own in ("onnx", ""):
        yield from _within(_text(flavor, "data"))
    if own in ("pytorch", ""):
        data = _text(flavor, "model_data")
        yield from _within(data and f"{data}/model.pth")
        yield from _within(data and f"{data}/model.pt2")
    if own in ("tensorflow", "keras", ""):
        yield from _within(_text(flavor, "saved_model_dir"))
        data = _text(flavor, "data")
        yield from _within(data and f"{data}/model")


def _within(path: str) -> Iterator[str]:
    """Yield the path if it is one in the model's folder."""
    normal = os.path.normpath(path) if path else ""
    if normal not in ("", ".") and not os.path.isabs(normal) and normal.split("/")[0] != "..":
        yield normal


def _native_inputs(schema: Sequence[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    """Return the inputs as their framework gets them: of a table, one matrix of numbers, as mlflow passes it on."""
    if schema and all(each.get("type") in ("integer", "long", "float", "double") for each in schema):
        return (TensorSpec("INPUT__0", "FP32", (-1, len(schema))),)
    return _native_tensors(schema, "INPUT__%d")


def _native_tensors(schema: Sequence[dict[str, Any]], default: str) -> tuple[TensorSpec, ...]:
    found = []
    for number, each in enumerate(schema):
        spec = _tensor(each)
        if spec is None:
            return ()
        found.append(spec._replace(name=_text(each, "name") or default % number))
    return tuple(found)


def _tensor(record: dict[str, Any]) -> TensorSpec | None:
    """Return a tensor of the signature, without its name; None for anything else."""
    spec = record.get("tensor-spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("shape"), list):
        return None
    try:
        shape = tuple(int(size) for size in spec["shape"])
        return TensorSpec("", datatype_of(spec.get("dtype", "")), shape) if 0 not in shape else None
    except (KeyError, TypeError, ValueError):
        return None


def _schema(signature: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the records of one part of the signature; none if it has none. Raises BrokenYaml."""
    text = signature.get(key)
    if not isinstance(text, str) or text in ("", "null", "~"):
        return []
    try:
        schema = json.loads(text)
        json.dumps(schema, ensure_ascii=False).encode()  # halves of characters ("\ud800") cannot be in an answer
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, list) or not all(isinstance(each, dict) for each in schema):
        raise BrokenYaml(f"the {key} of the signature in its {MLMODEL} are not a list in JSON")
    return schema


def _mapping(record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    return str(value) if isinstance(value, str | int) else ""
