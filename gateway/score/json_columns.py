"""Columns of JSON text: values that have no type of Arrow in common."""

import pyarrow as pa

JSON = {b"modelport": b"json"}


def is_json(field: pa.Field) -> bool:
    """Return whether the texts of this column are JSON, as those that `JSON` marks are."""
    return (field.metadata or {}).get(b"modelport") == b"json"
