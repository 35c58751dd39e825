"""The types of Spark that outputs have."""

import pyarrow as pa

_NAMES = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.binary(): "binary",
    pa.decimal128(20): "decimal(20,0)",
}
# Spark has neither unsigned numbers nor halves: the next type that has all values.
_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20),
    pa.float16(): pa.float32(),
}


def widened(kind: pa.DataType) -> pa.DataType:
    """Return the type in which Spark can have the values of this one. Lists of fixed size become lists."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(widened(kind.value_type))
    return _WIDER.get(kind, kind)


def spark_name(kind: pa.DataType) -> str:
    """Return the name in SQL of a type that `widened` has returned."""
    return f"array<{spark_name(kind.value_type)}>" if pa.types.is_list(kind) else _NAMES[kind]


def declaration(schema: pa.Schema, separator: str = " ") -> str:
    """Return a schema in SQL. separator: what is between a name and its type; in a struct, ": "."""
    return ", ".join(f"`{each.name.replace('`', '``')}`{separator}{spark_name(each.type)}" for each in schema)
