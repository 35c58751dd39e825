"""A folder that MLflow has saved, run as mlflow itself runs it: mlflow.pyfunc.

The model's signature determines the inputs and outputs. A named column is an input with one dimension, the rows; dates
are texts in ISO 8601. The params of the signature are optional inputs, whose defaults mlflow has.
"""

import os
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from runtimes.checks import declared_inputs, declared_outputs, given_inputs, quoted, wanted_outputs
from runtimes.contract import (
    BatchAnalysis,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    Signature,
    TensorSpec,
    datatype_of,
    first_line,
    numpy_dtype,
)

from .arrays import as_datatype, as_output, detached

# MLflow's types of columns.
_DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
# The input and the output of a signature that does not name them.
_INPUT, _OUTPUT = "inputs", "predictions"


class MlflowModel(Model):
    def __init__(self, options: LoadOptions) -> None:
        model = _load(os.path.dirname(options.artifact))
        signature = model.metadata.signature
        self._model = model
        self._columns = {}  # type: Dict[str, str]
        self._is_table = False
        self._bare = ""  # the input that mlflow gets as an array, not by its name
        inputs, optional = self._inputs(signature, options)
        params = _params(signature, [spec.name for spec in inputs])
        self._params = [spec.name for spec in params]
        outputs = _outputs(signature) or options.outputs or (TensorSpec(_OUTPUT),)
        self._signature = Signature(
            declared_inputs(options.inputs, inputs) + params,
            declared_outputs(options.outputs, outputs),
            {},
            optional + tuple(self._params),
        )
        self._outputs = {spec.name: spec for spec in self._signature.outputs}
        self._order = [spec.name for spec in outputs]
        self.signatures = {"default": self._signature}

    def _inputs(self, signature: Any, options: LoadOptions) -> Tuple[Tuple[TensorSpec, ...], Tuple[str, ...]]:
        """Return the inputs, without params, and the names of optional ones. Raises LoadError."""
        if signature is None or signature.inputs is None:
            if not options.inputs:
                raise LoadError(
                    "the MLflow model has no signature, so its inputs are not known: save it with a signature or an "
                    "input example, or add [[inputs]] to model.toml"
                )
            if len(options.inputs) == 1:
                self._bare = options.inputs[0].name
            return options.inputs, ()
        specs = signature.inputs.inputs
        if signature.inputs.is_tensor_spec():
            if not specs[0].name:
                self._bare = _INPUT
            return tuple(_tensor(spec, _INPUT) for spec in specs), ()
        self._columns = {spec.name or _INPUT: _type_of(spec) for spec in specs}
        self._is_table = all(spec.name for spec in specs)
        if not self._is_table and "binary" in self._columns.values():
            raise LoadError("the MLflow model has a binary column without a name, which cannot be served: name it")
        found = tuple(
            TensorSpec(name, _datatype("column '%s'" % name, kind), (-1,)) for name, kind in self._columns.items()
        )
        return found, tuple(spec.name for spec in specs if spec.name and not spec.required)

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        """Params hold for all rows of a request, so requests that may have different ones do not run together."""
        return BatchAnalysis(alone="the model has params") if self._params else None

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        wanted = wanted_outputs(outputs, list(self._outputs))
        arrays = given_inputs(self._signature, inputs)
        params = {name: _param(arrays.pop(name)) for name in self._params if name in arrays}
        returned = self._by_name(self._predict(self._data(arrays), params))
        missing = [name for name in wanted if name not in returned]
        if missing:
            raise ValueError("predict returned %s, but not %s" % (quoted(returned), quoted(missing)))
        answer = {name: as_output(self._outputs[name], _array(self._outputs[name], returned[name])) for name in wanted}
        return detached(answer, inputs.values())

    def _predict(self, data: Any, params: Dict[str, Any]) -> Any:
        """Raises InvalidInput if mlflow says that the data does not match the signature."""
        from mlflow.exceptions import MlflowException

        try:
            return self._model.predict(data, params=params) if params else self._model.predict(data)
        except MlflowException as error:
            if error.error_code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise
            raise InvalidInput(first_line(Exception(str(error).rpartition("Error: ")[2]))[:500]) from error

    def _data(self, arrays: Dict[str, np.ndarray]) -> Any:
        """Return the inputs as mlflow takes them: a table, an array, or arrays by name. Raises InvalidInput."""
        if self._columns:
            columns = {name: _column(name, self._columns[name], array) for name, array in arrays.items()}
            if not self._is_table:
                return columns[_INPUT]
            import pandas

            lengths = {len(column) for column in columns.values()}
            if len(lengths) > 1:
                raise InvalidInput("the columns have different numbers of rows: %s" % sorted(lengths))
            return pandas.DataFrame(columns)
        # Models may change them, and they belong to the caller.
        copies = {name: _text(array) if array.dtype.kind == "O" else array.copy() for name, array in arrays.items()}
        return copies[self._bare] if list(copies) == [self._bare] else copies

    def _by_name(self, returned: Any) -> Dict[str, Any]:
        """Return what predict returned, by the names of the outputs."""
        if isinstance(returned, dict):
            return returned
        if hasattr(returned, "columns"):  # a DataFrame
            by_name = {str(name): returned[name].to_numpy() for name in returned.columns}
            if len(self._order) > 1 or self._order[0] in by_name:
                return by_name
            returned = returned.iloc[:, 0] if len(by_name) == 1 else returned
        if len(self._order) == 1:
            return {self._order[0]: returned}
        array = np.asarray(returned)
        if array.ndim != 2 or array.shape[1] != len(self._order):
            raise TypeError("predict returned %s, not %s" % (type(returned).__name__, quoted(self._order)))
        return dict(zip(self._order, array.T))


def _load(folder: str) -> Any:
    """Raises LoadError."""
    # Otherwise it reports to its maker, in a thread that fails in the sandbox.
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ.setdefault("JOBLIB_MULTIPROCESSING", "0")  # it starts processes, which the sandbox stops
    try:
        import mlflow.pyfunc
        import pandas  # noqa: F401 - mlflow-skinny does not install it, and no signature can be read without it
    except ModuleNotFoundError as error:
        raise LoadError(
            "the MLflow model's environment does not have '%s': name its package in requirements.txt" % error.name
        ) from error
    try:
        return mlflow.pyfunc.load_model(folder)
    except ModuleNotFoundError as error:
        raise LoadError(
            "the MLflow model needs '%s', which its environment does not have: name its package in requirements.txt"
            % error.name
        ) from error
    except mlflow.exceptions.MlflowException as error:
        raise LoadError("mlflow cannot load the model: %s" % first_line(error)) from error


def _params(signature: Any, inputs: Sequence[str]) -> Tuple[TensorSpec, ...]:
    """Return the params that can be sent as tensors; the others keep their defaults. Raises LoadError."""
    found = []
    for param in getattr(signature, "params", None) or ():
        datatype = _DATATYPES.get(getattr(param.dtype, "name", ""), "")
        if not datatype:
            continue
        if param.name in inputs:
            raise LoadError("the MLflow model has both an input and a param '%s': rename one of them" % param.name)
        found.append(TensorSpec(param.name, datatype, tuple(param.shape or ())))
    return tuple(found)


def _outputs(signature: Any) -> Tuple[TensorSpec, ...]:
    """Return the outputs; none if the signature has none. Raises LoadError."""
    if signature is None or signature.outputs is None:
        return ()
    specs = signature.outputs.inputs
    if signature.outputs.is_tensor_spec():
        return tuple(_tensor(spec, _OUTPUT) for spec in specs)
    return tuple(
        TensorSpec(spec.name or _OUTPUT, _datatype("output '%s'" % (spec.name or _OUTPUT), _type_of(spec)), (-1,))
        for spec in specs
    )


def _tensor(spec: Any, default: str) -> TensorSpec:
    name = spec.name or default
    try:
        return TensorSpec(name, datatype_of(spec.type), tuple(int(size) for size in spec.shape))
    except KeyError:
        raise LoadError("the MLflow model's tensor '%s' is of %s, which cannot be served" % (name, spec.type)) from None


def _type_of(spec: Any) -> str:
    return getattr(spec.type, "name", "") or type(spec.type).__name__.lower()


def _datatype(what: str, kind: str) -> str:
    if kind not in _DATATYPES:
        raise LoadError(
            "the MLflow model's %s has the type %s, which cannot be served; the types are %s"
            % (what, kind, ", ".join(_DATATYPES))
        )
    return _DATATYPES[kind]


def _column(name: str, kind: str, array: np.ndarray) -> Any:
    """Return a column of a table, as mlflow takes it. Raises InvalidInput."""
    if kind == "datetime":
        return _dates(name, array)
    return _text(array) if kind == "string" else array.copy()


def _dates(name: str, array: np.ndarray) -> Any:
    """Return dates, in UTC if they have an offset. Raises InvalidInput."""
    import pandas

    texts = list(_text(array))
    try:
        found = [pandas.Timestamp(each) for each in texts]
        utc = [each.tz_convert(None) if each.tzinfo else each for each in found]
        return pandas.Series(utc, dtype="datetime64[ns]").to_numpy()  # which refuses dates that it cannot hold
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput(
            "column '%s' has a value that is not a date between 1678 and 2262; write dates as 2024-05-31T12:00:00"
            % name
        ) from None


def _text(array: np.ndarray) -> np.ndarray:
    """Raises InvalidInput."""
    found = np.empty(array.size, object)
    try:
        found[:] = [each.decode() for each in array.flat]
    except UnicodeDecodeError:
        raise InvalidInput("a string is not UTF-8") from None
    return found.reshape(array.shape)


def _param(array: np.ndarray) -> Any:
    return (_text(array) if array.dtype.kind == "O" else array).tolist()


def _array(spec: TensorSpec, value: Any) -> np.ndarray:
    """Return an output as an array of its datatype. Raises ValueError if its values do not have it."""
    array = np.asarray(value)
    if array.dtype.kind == "M":
        import pandas

        texts = [pandas.Timestamp(each).isoformat() for each in array.flat]
        array = np.array(texts, object).reshape(array.shape)
    if spec.shape == (-1,) and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if spec.datatype == "BYTES" and not array.size:
        return array.astype(object)  # numpy takes no values for numbers
    if not spec.datatype or spec.datatype == "BYTES":
        return array
    dtype = numpy_dtype(spec.datatype)
    if array.dtype.kind != "O" and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError("predict returned %s for '%s', which is %s" % (array.dtype, spec.name, spec.datatype))
    return as_datatype(spec, array)
