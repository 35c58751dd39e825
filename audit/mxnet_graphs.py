"""Generates random MXNet symbols whose rows are independent, or mixed, by construction.

`PYTHON mxnet_graphs.py FOLDER COUNT`, in MXNet's environment, writes COUNT symbols with their parameters and shapes.
For each symbol, graphs.json contains the step that mixes rows, or "" if there is none.
"""

import json
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet_mixing import ENDINGS, STEPS
from mxnet_pictures import PICTURE, global_pool
from mxnet_steps import ANY, Builder, S, flat_dense, flattened


def chain(b, x, count):
    for _ in range(count):
        picture = len(b.sizes(x)) == 3 and b.random.random() < 0.7
        step = b.random.choice(PICTURE if picture else ANY)
        if int(np.prod(b.sizes(x))) > 2000:
            step = flattened if len(b.sizes(x)) == 1 else global_pool if len(b.sizes(x)) == 3 else flat_dense
        b.steps.append(step.__name__)
        x = step(b, x)
    return x


def written(seed, folder):
    b = Builder(seed)
    x = S.broadcast_mul(S.var("data"), b.weight(*[1] * (len(b.shape) + 1)))
    x, mixing = chain(b, x, b.random.randint(1, 3)), ""
    if seed % 2:
        step = b.random.choice(ENDINGS if b.random.random() < 0.15 else STEPS)
        mixing = step.__name__
        b.steps.append(mixing)
        x = step(b, x)
    if mixing not in [each.__name__ for each in ENDINGS]:
        x = chain(b, x, b.random.randint(0, 2))
    shapes, _, states = x.infer_shape(data=(2, *b.shape))
    saved = {}
    for kind, names, sizes in (("arg", x.list_arguments(), shapes), ("aux", x.list_auxiliary_states(), states)):
        for name, shape in zip(names, sizes):  # noqa: B905 - Python 3.8
            if name != "data":
                array = b.numpy.standard_normal(shape) * 0.3 + (0 if "weight" in name else 1)
                saved[kind + ":" + name] = mx.nd.array(np.abs(array) if "var" in name else array)
    # Run the symbol once, so that symbols that MXNet cannot run are skipped.
    arguments = {key[4:]: value for key, value in saved.items() if key.startswith("arg:")}
    arguments["data"] = mx.nd.ones((2, *b.shape))
    aux = {key[4:]: value for key, value in saved.items() if key.startswith("aux:")}
    x.bind(mx.cpu(), arguments, aux_states=aux, grad_req="null").forward(is_train=False)[0].asnumpy()
    prefix = str(folder / f"graph{seed}")
    x.save(prefix + "-symbol.json")
    mx.nd.save(prefix + "-0000.params", saved)
    Path(prefix + "-shapes.json").write_text(json.dumps([{"name": "data", "shape": [1, *b.shape]}]))
    return {"artifact": f"graph{seed}-symbol.json", "mixing": mixing, "steps": b.steps}


def main():
    folder, count, found, seed = Path(sys.argv[1]), int(sys.argv[2]), {}, 0
    while len(found) < count:
        try:
            found[f"graph{seed}"] = written(seed, folder)
        except Exception as error:
            print(seed, type(error).__name__, str(error)[:300], file=sys.stderr)
        seed += 1
    (folder / "graphs.json").write_text(json.dumps(found))


main()
