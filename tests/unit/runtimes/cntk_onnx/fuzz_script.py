"""Load mutated CNTK files as a worker does, and run each model that loads once.

    PYTHON -I fuzz_script.py FIRST COUNT SECONDS

Runs in the environment of cntk_onnx, with a memory limit. The numbers from FIRST on are random seeds, one per file; up
to COUNT files are tried within SECONDS. Each number is printed before its file is tried, so that the output of a
process that died ends with the number of the fatal file. Finally, the numbers of loaded and refused files are printed.
"""

import contextlib
import faulthandler
import importlib.util
import json
import math
import resource
import runpy
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
BYTES, SECONDS = 3 << 30, 20
MAX_MESSAGE_LENGTH = 1000
# Larger inputs are not tried, because they may not fit in memory.
MAX_VALUES = 1 << 20


def main(first: int, count: int, seconds: float) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    runpy.run_path(str(ROOT / "runtimes" / "bootstrap.py"))
    from runtimes.contract import LoadError

    ends = time.monotonic() + seconds
    found = {"loaded": 0, "refused": 0}
    number = first
    while number < first + count and time.monotonic() < ends:
        print(number, flush=True)
        # This ends the process even if C code hangs.
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            model = load(Random(number))
        except LoadError as error:
            found["refused"] += 1
            if not 0 < len(str(error)) < MAX_MESSAGE_LENGTH:
                raise
        else:
            found["loaded"] += 1
            ask(model)
        faulthandler.cancel_dump_traceback_later()
        number += 1
    print(json.dumps(found))
    return 0


def load(random: Random) -> Any:
    """Load a random file. Raises LoadError; any other exception is a bug."""
    from runtimes.cntk_onnx.functions import network
    from runtimes.cntk_onnx.runtime import load as load_file
    from runtimes.cntk_onnx.runtime import served
    from runtimes.cntk_onnx.translate import translate_network
    from runtimes.contract import LoadOptions

    mutations = helpers()
    name = random.choice(names())
    if random.random() < 0.5:
        data = mutations.edited(base(name), mutations.random_edits(random))
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            return load_file(LoadOptions(artifact=file.name))
    root = read(name)
    for each in mutations.random_changes(random):
        root = mutations.changed(root, each)
    root = root if isinstance(root, dict) else {}
    return served(translate_network(network(root)), LoadOptions(artifact=""))


def ask(model: Any) -> None:
    """Run two rows of ones. An error is acceptable; a crash or a hang is not."""
    import numpy as np

    from runtimes.contract import numpy_dtype

    signature = model.signatures["default"]
    shapes = {spec.name: [2 if size < 0 else size for size in spec.shape] for spec in signature.inputs}
    if max(map(math.prod, shapes.values()), default=0) > MAX_VALUES:
        return
    inputs = {spec.name: np.ones(shapes[spec.name], numpy_dtype(spec.datatype)) for spec in signature.inputs}
    with contextlib.suppress(Exception):
        model.infer(inputs, [spec.name for spec in signature.outputs], "default")


@cache
def helpers() -> Any:
    spec = importlib.util.spec_from_file_location("mutations", HERE / "mutations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def names() -> list[str]:
    return sorted(path.stem for path in (HERE / "models").glob("*.model"))


@cache
def base(name: str) -> bytes:
    return (HERE / "models" / f"{name}.model").read_bytes()


@cache
def read(name: str) -> dict[str, Any]:
    from runtimes.cntk_onnx.dictionary import read as read_bytes

    return read_bytes(base(name))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
