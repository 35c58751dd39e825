"""Types of outputs, as Spark has them."""

import pyarrow as pa
import pytest

from gateway.cluster.spark_types import declaration, spark_name, widened


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.bool_(), "boolean"),
        (pa.int8(), "tinyint"),
        (pa.uint8(), "smallint"),
        (pa.uint16(), "int"),
        (pa.uint32(), "bigint"),
        (pa.uint64(), "decimal(20,0)"),
        (pa.float16(), "float"),
        (pa.float64(), "double"),
        (pa.binary(), "binary"),
        (pa.list_(pa.float32(), 4), "array<float>"),
        (pa.list_(pa.list_(pa.uint8(), 2)), "array<array<smallint>>"),
    ],
)
def test_every_type_of_an_output_has_one_in_spark(kind: pa.DataType, name: str) -> None:
    assert spark_name(widened(kind)) == name


def test_the_largest_numbers_survive() -> None:
    for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        largest = 2**kind.bit_width - 1
        assert int(pa.array([largest], kind).cast(widened(kind))[0].as_py()) == largest


def test_names_are_quoted() -> None:
    schema = pa.schema([("a`b", pa.int32()), ("c.d", pa.list_(pa.float32()))])
    assert declaration(schema, ": ") == "`a``b`: int, `c.d`: array<float>"
