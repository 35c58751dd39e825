"""What MLflow's signature of a model says that its tensors do not: how a table of columns becomes inputs."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class TableSchema(NamedTuple):
    """How clients of MLflow's dialect write the inputs and outputs of a model.

    columns  name → MLflow's type (long, string, datetime, …), in the model's order; empty if its inputs are tensors
    params   the inputs that such clients send as "params"
    records  whether the answer to a table is a list of rows, each with a value for each output
    unnamed  whether the only output has no name for clients, who get its values alone
    """

    columns: Mapping[str, str] = {}
    params: tuple[str, ...] = ()
    records: bool = False
    unnamed: bool = False


def table_schema_from_json(raw: Any) -> TableSchema | None:
    if raw is None:
        return None
    columns, params, records, unnamed = raw
    return TableSchema(columns, tuple(params), records, unnamed)
