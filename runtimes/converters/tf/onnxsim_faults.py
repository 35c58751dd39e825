"""What onnxsim 0.6.5 gets wrong, by which onnx2tf makes a graph smaller before it reads it; met from outside.

It makes a Pad of zeros part of the pooling behind it, whose own padding never wins in a MaxPool: where all values under
a window are negative, the answer changes.
"""

import subprocess
from types import SimpleNamespace
from typing import Any, Sequence

WRONG = ("fuse_pad_into_pool",)


def meet() -> None:
    """onnx2tf runs it as a program, and has no option for what that should leave out."""
    import onnx2tf.onnx2tf as module

    def check_output(command: Sequence[str], **options: Any) -> Any:
        left_out = ["--skip-optimization", *WRONG] if command[0] == "onnxsim" else []
        return subprocess.check_output([*command, *left_out], **options)

    module.subprocess = SimpleNamespace(**{**vars(subprocess), "check_output": check_output})
