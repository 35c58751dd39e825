"""Loops through PastValue or FutureValue, as ONNX's Scan."""

from typing import Dict, List

from runtimes.cntk_onnx.functions import Function
from runtimes.cntk_onnx.graph import Graph, Value


def translate_loop(functions: List[Function], values: Dict[str, Value], graph: Graph) -> Dict[str, Value]:
    functions[0].refuse("loops are not covered")
