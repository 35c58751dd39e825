"""How a client asks for the outputs of a request: the same for REST and gRPC."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.domain.shared_memory import RegionRange


class OutputOptions(NamedTuple):
    """How to return the outputs, by their names.

    binary          whether outputs are returned as bytes after the JSON; REST only
    binary_by_name  overrides `binary` for one output
    class_counts    outputs to return as this many classes per row: see classification.py
    region_ranges   outputs to write to shared memory, and where
    """

    binary: bool = False
    binary_by_name: Mapping[str, bool] = {}
    class_counts: Mapping[str, int] = {}
    region_ranges: Mapping[str, RegionRange] = {}

    def is_binary(self, output: str) -> bool:
        return self.binary_by_name.get(output, self.binary)


ALL_JSON, ALL_BINARY = OutputOptions(), OutputOptions(binary=True)
