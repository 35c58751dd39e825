"""Computes CNTK's answers in FP32, the datatype of its operators."""

import cntk as C
from asked import answer_all


def element(function):
    def run(*arrays):
        variables = [C.input_variable(array.shape) for array in arrays]
        feed = {variable: [array] for variable, array in zip(variables, arrays)}  # noqa: B905 - Python 3.6
        return function(*variables).eval(feed)[0]

    return run


FUNCTIONS = {
    "nan-maximum": C.element_max,
    "nan-relu": C.relu,
    "nan-clip": lambda x: C.clip(x, 0.0, 6.0),
    "nan-reduce-max": lambda x: C.reduce_max(x, 1),
    "nan-argmax": lambda x: C.argmax(x, 1),
    "nan-top-k": lambda x: C.top_k(x, 2).outputs[0],
    "nan-max-pool": lambda x: C.pooling(x, C.MAX_POOLING, (1, 2), (1, 2)),
    "denormal-product": lambda x, y: C.slice(C.element_times(x, y), 0, 0, 1),
    "sigmoid-tail": C.sigmoid,
    "softplus-tail": C.softplus,
    "float-sum": C.reduce_sum,
    "masked-row": lambda x: C.softmax(x, 1),
    "round-half": C.round,
    "argmax-tie": lambda x: C.argmax(x, 1),
    "top-k-tie": lambda x: C.top_k(x, 2).outputs[1],
    "power": C.pow,
    "logarithm-below-zero": C.log,
    "normalised-constant": lambda x: (
        (x - C.reduce_mean(x, 1)) / C.sqrt(C.reduce_mean(C.square(x - C.reduce_mean(x, 1)), 1) + 1e-5)
    ),
}

if __name__ == "__main__":
    answer_all("CNTK " + C.__version__, {key: element(each) for key, each in FUNCTIONS.items()})
