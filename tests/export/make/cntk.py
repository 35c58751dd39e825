"""Make the export table's CNTK models: `PYTHON cntk.py FOLDER`, in the runtime's environment.

This file must not be imported as `cntk`; run as a script, its folder comes first on sys.path, so
that folder is removed again.
"""

import sys
from pathlib import Path

sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import cntk as C  # noqa: E402
import numpy as np  # noqa: E402
from cntk.layers import LSTM, Convolution, ConvolutionTranspose2D, Dense, MaxPooling, Recurrence  # noqa: E402


def main(root):
    C.cntk_py.set_fixed_random_seed(0)
    random = np.random.RandomState(0)

    def numbers(*shape):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)

    def write(name, function):
        folder = Path(root, name, "1")
        folder.mkdir(parents=True)
        function.save(str(folder / "model.model"))

    x = C.input_variable(12, name="x")
    write("mlp", C.alias(C.softmax(Dense(4)(Dense(16, activation=C.relu)(x))), "scores"))

    image = C.input_variable((4, 12, 10), name="image")
    kernel = C.parameter(init=numbers(8, 2, 3, 3) - 1)
    grouped = C.convolution(kernel, image, auto_padding=[False, True, True], groups=2)
    weights = [C.parameter(init=numbers(8)) for _ in range(2)]
    stored = [C.constant(numbers(8)) for _ in range(2)]
    normal = C.batch_normalization(grouped, *weights, *stored, spatial=True, running_count=C.constant(1))
    write("cnn", C.alias(Dense(5)(MaxPooling((2, 2), strides=2)(C.relu(normal))), "scores"))

    image = C.input_variable((3, 8, 12), name="image")
    down = Convolution((3, 3), 6, strides=2, pad=True, activation=C.relu)(image)
    up = ConvolutionTranspose2D((2, 2), 6, strides=2, activation=C.relu)(down)
    write("fcn", C.alias(Convolution((1, 1), 5)(up), "mask"))

    x = C.input_variable((3, 320), name="x")
    write("long", C.alias(MaxPooling((3,), pad=True)(Convolution((3,), 5, pad=True, activation=C.relu)(x)), "y"))

    x = C.sequence.input_variable(6, name="x")
    steps = C.splice(Recurrence(LSTM(5))(x), Recurrence(LSTM(5), go_backwards=True)(x))
    write("lstm", C.combine(C.alias(steps, "steps"), C.alias(Dense(3)(C.sequence.last(steps)), "scores")))

    x = C.input_variable(3, name="x")
    write("passing", C.combine(C.alias(x, "same"), C.alias(x * 2 + 1, "other")))

    a, b = (C.input_variable(4, name=f"serving:in/{name}:0") for name in "ab")
    write("names", C.alias((b - a) * 3, "out/y:0"))


if __name__ == "__main__":
    main(sys.argv[1])
