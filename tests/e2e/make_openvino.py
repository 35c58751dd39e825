"""Make models of OpenVINO and the answers that it computes itself: `PYTHON make_openvino.py FOLDER ONNX SAVEDMODEL`.

It runs in the runtime's environment. FOLDER gets an IR of the ONNX file as OpenVINO saves it, with weights in FP16, and
expected.npz: the image that is asked, and the scores of each file by OpenVINO in FP32 and, named bf16, in BF16.
"""

import sys
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops


def scores(core, path, image, precision="f32"):
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return compiled([image])[0]


def main(folder, onnx, savedmodel):
    core = ov.Core()
    ov.save_model(core.read_model(onnx), folder / "model.xml")
    image = np.random.default_rng(21).uniform(0, 16, (3, 64)).astype(np.float32)
    found = {"onnx": onnx, "savedmodel": savedmodel, "ir": str(folder / "model.xml")}
    answers = {name: scores(core, path, image) for name, path in found.items()}
    np.savez(folder / "expected.npz", image=image, bf16=scores(core, onnx, image, "bf16"), **answers)
    x = ops.parameter([-1, 2], np.float32, name="x")
    kept = ops.read_value(ops.constant(np.zeros((1, 2), np.float32)), "h", ov.Type.f32, ov.PartialShape([1, 2]))
    y = ops.add(kept, x)
    kept_next = ops.assign(ops.reduce_sum(y, ops.constant(np.array([0])), True), "h")
    ov.save_model(ov.Model([ops.result(y, name="y")], [kept_next], [x], "counter"), folder / "state.xml")
    inputs = [ops.parameter([-1, 3], getattr(ov.Type, kind), name=kind) for kind in ("bf16", "f8e4m3", "i4", "u4")]
    more = [
        ops.convert(ops.add(ops.convert(x, "f32"), np.float32(1)), x.get_element_type().get_type_name()) for x in inputs
    ]
    ov.save_model(ov.Model([ops.result(each) for each in more], inputs, "narrow"), folder / "narrow.xml")
    table = ops.constant(np.arange(8, dtype=np.float32).reshape(4, 2))
    place = ops.parameter([-1, 1], np.int64, name="place")
    ov.save_model(ov.Model([ops.gather_nd(table, place)], [place], "places"), folder / "places.xml")
    column = ops.parameter([-1, 2], np.int64, name="column")
    chosen = ops.gather_elements(table, column, 0)
    ov.save_model(ov.Model([chosen], [column], "columns"), folder / "columns.xml")


main(Path(sys.argv[1]), *sys.argv[2:])
