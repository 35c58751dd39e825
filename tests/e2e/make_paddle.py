"""Make paddle/model.pdmodel again, and print what PaddlePaddle computes for a row of ones.

    pip install paddlepaddle==3.2.2
    FLAGS_enable_pir_api=0 python make_paddle.py

The files are kept because the package has 190 MB.
"""

from pathlib import Path

import paddle
from paddle.base.proto import framework_pb2

paddle.seed(0)
network = paddle.nn.Sequential(paddle.nn.Linear(4, 8), paddle.nn.ReLU(), paddle.nn.Linear(8, 3))
network.eval()
print(network(paddle.ones([1, 4])).numpy())
spec = [paddle.static.InputSpec([None, 4], "float32", "x")]
paddle.jit.save(network, str(Path(__file__).with_name("paddle") / "model"), input_spec=spec)
# Each operator has the lines of source that made it, with the folders of this machine.
file = Path(__file__).with_name("paddle") / "model.pdmodel"
program = framework_pb2.ProgramDesc.FromString(file.read_bytes())
for operator in (each for block in program.blocks for each in block.ops):
    kept = [attribute for attribute in operator.attrs if attribute.name != "op_callstack"]
    del operator.attrs[:]
    operator.attrs.extend(kept)
file.write_bytes(program.SerializeToString())
file.with_name("model.pdiparams.info").unlink(missing_ok=True)
