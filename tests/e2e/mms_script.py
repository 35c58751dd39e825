"""What an archive of Multi Model Server has: `PYTHON mms_script.py FOLDER`, and MXNet's own answer in expected.npz."""

import json
import sys
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

folder = Path(sys.argv[1])
mx.random.seed(0)
data = mx.sym.Variable("data")
symbol = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(data, num_hidden=4, name="fc"), name="softmax")
module = mx.mod.Module(symbol, data_names=["data"], label_names=["softmax_label"])
module.bind([("data", (2, 3))], [("softmax_label", (2,))])
module.init_params(mx.init.Uniform(1.0))
module.save_checkpoint(str(folder / "animals"), 0)
signature = {
    "inputs": [{"data_name": "data", "data_shape": [0, 3]}],
    "input_type": "application/json",
    "outputs": [{"data_name": "softmax", "data_shape": [0, 4]}],
    "output_type": "application/json",
}
(folder / "signature.json").write_text(json.dumps(signature))
(folder / "synset.txt").write_text("n1 cat\nn2 dog\nn3 cow\nn4 hen\n")

values = np.random.default_rng(0).normal(size=(2, 3)).astype("f4")
module.forward(mx.io.DataBatch([mx.nd.array(values)], [mx.nd.zeros(2)]), is_train=False)
np.savez(folder.parent / "expected.npz", data=values, softmax=module.get_outputs()[0].asnumpy())


class Scaled(mx.gluon.HybridBlock):
    """Gluon's numpy interface: a scalar as input, and one as output."""

    def hybrid_forward(self, F: Any, x: Any, v: Any) -> Any:
        return x * v, F.np.sum(x * v)


with mx.util.np_shape(True), mx.util.np_array(True):
    block = Scaled()
    block.hybridize()
    results = block(mx.np.array(values), mx.np.array(2.5))
    block.export(str(folder.parent / "scaled"))
    outputs = mx.sym.load(str(folder.parent / "scaled-symbol.json")).list_outputs()
    computed = {name: results[index].asnumpy() for index, name in enumerate(outputs)}
np.savez(folder.parent / "scaled.npz", data0=values, data1=np.float32(2.5), **computed)
