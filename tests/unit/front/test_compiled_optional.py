"""Inputs that may be left out, and outputs in JSON only: a front does the same with and without the compiled path."""

import json
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import uvloop

from gateway.domain.types import ModelStatus
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor, from_array, pack_bytes
from tests.support.front_pair import pair, result_frame
from tests.unit.front.test_compiled_requests import module

__all__ = ["module"]  # a fixture

_ROWS = {name: TensorSpec(name, "FP32", (-1, 2)) for name in ("x", "y", "z", "loss", "p", "mask")}
_ROWS["small"] = TensorSpec("small", "BF16", (-1, 2))
_NEEDS = {"z": ("x",), "loss": ("x", "y")}
_STATUSES = [
    ModelStatus(name, "1", "READY", admits=True, signatures={"": signature}, max_batch_size=8)
    for name, signature in {
        "optional": Signature((_ROWS["x"], _ROWS["mask"], _ROWS["small"]), (_ROWS["z"],), {}, ("mask", "small")),
        "needs": Signature((_ROWS["x"], _ROWS["y"]), (_ROWS["z"], _ROWS["loss"]), {}, ("y",), _NEEDS),
        "unbatched": Signature((_ROWS["x"],), (_ROWS["z"],), unbatched=(TensorSpec("w", "FP32", (2,)),)),
        "json": Signature((_ROWS["x"],), (_ROWS["z"], _ROWS["p"]), {"p": "it is a map"}, json=("p",)),
    }.items()
]


def _request(random: Random, values_of: Random) -> bytes:
    """random: for everything but the values."""
    status = random.choice(_STATUSES)
    signature = status.signatures[""]
    specs = [spec for spec in signature.inputs + signature.unbatched if spec.name == "x" or random.random() < 0.5]
    if random.random() < 0.05:
        specs = specs[1:]
    random.shuffle(specs)
    rows = random.choice((1, 1, 2))
    names = [spec.name for spec in signature.outputs]
    outputs = random.choice(([], [], [], names, names[:1], names[-1:]))
    values = {
        spec.name: [values_of.randrange(9), 1]
        if spec.name == "w"
        else [[values_of.randrange(9), 1] for _ in range(rows)]
        for spec in specs
    }
    dialect = random.choice(("v2", "predict", "tfserving"))
    document: dict[str, Any]
    if dialect == "v2":
        path, inputs = f"/v2/models/{status.name}/infer", []
        for spec in specs:
            shape = list(np.shape(values[spec.name]))
            data = np.ravel(values[spec.name]).tolist()
            inputs.append({"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data})
        document = {"inputs": inputs} | ({"outputs": [{"name": name} for name in outputs]} if outputs else {})
    else:
        document = {"inputs": values}
        if random.random() < 0.4 and "w" not in values:
            document = {"instances": [{name: values[name][row] for name in values} for row in range(rows)]}
        path = f"/predict/{status.name}"
        if dialect == "tfserving":
            path = f"/v1/models/{status.name}:predict"
        elif outputs:
            document["outputs"] = outputs
    body = json.dumps(document).encode()
    return b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


def _answer(signature: Signature, asked: Any) -> list[Tensor]:
    """Return outputs whose values say from which inputs they were made."""
    total = sum(sum(bytes(each.data)) for each in asked.inputs)
    given = [each.name for each in asked.inputs]
    rows = next(each.shape[0] for each in asked.inputs if each.name != "w")
    found = []
    for name in asked.outputs or signature.outputs_from(given):
        if name in signature.json:
            found.append(Tensor(name, "BYTES", (1,), pack_bytes([b'{"a":%d}' % total])))
        else:
            found.append(from_array(name, np.full((rows, 2), total, np.float32)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_random_requests(module: ModuleType, tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        random = Random(seed)
        async with pair(module, tmp_path) as both:
            await both.apply(*[(status, [await both.worker(1 << 20)]) for status in _STATUSES])
            clients = [both.connect() for _ in range(4)]
            for turn in range(200):
                index = random.randrange(len(clients))
                if clients[index] not in both.plain.clients:
                    clients[index] = both.connect()
                kind = Random(10 * seed + random.randrange(10))  # few enough for the fast path to learn them
                both.send(clients[index], _request(kind, random))
                await both.compare()
                if turn % 2:
                    continue
                for worker, numbers in both.asked().items():
                    for number in numbers:
                        asked = both.request(worker, number)
                        tensors = _answer(_STATUSES[worker - 1].signatures[""], asked)
                        both.answer(worker, [number], result_frame([(number, 0, tensors)]))
                        await both.compare()
            assert 20 < both.fast.taken["HttpRequest"] < 200

    uvloop.run(main())
