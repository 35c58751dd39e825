"""Operations along a sequence's axis. All sequences of one request are of one length."""

from typing import Callable, Dict

from runtimes.cntk_onnx.graph import Value
from runtimes.cntk_onnx.site import Site

TRANSLATORS: Dict[str, Callable[[Site], Value]] = {}
