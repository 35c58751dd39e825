"""Lists the questions: each is a computation, its input, and how modelport handles the differences."""

from typing import Any, NamedTuple

NAN, INF = float("nan"), float("inf")


class Question(NamedTuple):
    """A computation to compare. `inputs` maps names to (numpy dtype, nested list); `remedy` is advice to users."""

    id: str
    title: str
    inputs: dict[str, tuple[str, Any]]
    remedy: str


SERVED = "Each model returns what its own framework returns."
PROOF = "`export` and `compare` test with such values, and an export with different results is refused."
FINITE = "Served unchanged. Exports are not verified with NaN: keep NaN out of requests to exported models."

QUESTIONS = [
    Question(
        "nan-maximum",
        "The larger of NaN and a number",
        {"x": ("float32", [NAN, 1.0]), "y": ("float32", [1.0, NAN])},
        FINITE,
    ),
    Question("nan-relu", "ReLU of NaN", {"x": ("float32", [NAN, -1.0])}, FINITE),
    Question("nan-clip", "NaN clipped to 0…6", {"x": ("float32", [NAN, 9.0])}, FINITE),
    Question(
        "nan-reduce-max",
        "The maximum of a row that contains NaN",
        {"x": ("float32", [[NAN, 1.0, 2.0], [1.0, NAN, 2.0], [1.0, 2.0, NAN]])},
        FINITE,
    ),
    Question(
        "nan-argmax",
        "The index of the maximum of a row that contains NaN",
        {"x": ("float32", [[NAN, 1.0, 2.0], [1.0, NAN, 2.0], [1.0, 2.0, NAN]])},
        FINITE,
    ),
    Question(
        "nan-top-k",
        "The two largest values of a row that contains NaN",
        {"x": ("float32", [[1.0, NAN, 3.0, 2.0]])},
        FINITE,
    ),
    Question(
        "nan-max-pool",
        "Max pooling over a window that contains NaN (windows of 2)",
        {"x": ("float32", [[[NAN, 1.0, 2.0, NAN]]])},
        FINITE,
    ),
    Question(
        "denormal-product",
        "The product of 1e-20 and 1e-20 (1e-40, below the smallest normal number)",
        {"x": ("float32", [1e-20] * 16), "y": ("float32", [1e-20] * 16)},
        "Served unchanged. Differences of this size are below the tolerance of the verification.",
    ),
    Question(
        "sigmoid-tail",
        "Sigmoid of -18, -40, -90 and -104",
        {"x": ("float32", [-18.0, -40.0, -90.0, -104.0])},
        "A logarithm applied to the result turns 0 into -inf. " + PROOF + " logsigmoid is exported as -softplus(-x).",
    ),
    Question(
        "softplus-tail", "Softplus of -100, -40, 40 and 100", {"x": ("float32", [-100.0, -40.0, 40.0, 100.0])}, PROOF
    ),
    Question(
        "integer-division",
        "-7, -1 and 7 divided by 2, as integers (the framework's `/` or `//`)",
        {"x": ("int32", [-7, -1, 7]), "y": ("int32", [2, 2, 2])},
        "Exports keep the rounding (floor stays floor, truncation stays truncation). " + PROOF,
    ),
    Question(
        "integer-remainder",
        "The remainder of -7, -1 and 7 divided by 3, as integers",
        {"x": ("int32", [-7, -1, 7]), "y": ("int32", [3, 3, 3])},
        PROOF,
    ),
    Question(
        "float-remainder",
        "The remainder of -7.5 and 7.5 divided by 2",
        {"x": ("float32", [-7.5, 7.5]), "y": ("float32", [2, 2])},
        PROOF,
    ),
    Question(
        "right-shift",
        "-7, -1 and 7 shifted right by one",
        {"x": ("int32", [-7, -1, 7]), "y": ("int32", [1, 1, 1])},
        "ONNX shifts unsigned numbers only; exports of `>>` become a floor division. " + PROOF,
    ),
    Question(
        "sum-beyond-2-53",
        "The sum of 2^53, 1 and 1, in INT64",
        {"x": ("int64", [2**53, 1, 1])},
        "JavaScript's integers are exact only up to 2^53: TF.js exports have no INT64, and the report says so.",
    ),
    Question(
        "float-sum",
        "The sum of 2^24 and sixteen ones, in FP32",
        {"x": ("float32", [2.0**24] + [1.0] * 16)},
        "The order of the additions differs. The verification measures how much the original itself varies.",
    ),
    Question(
        "integer-overflow", "2147483647 + 1, in INT32", {"x": ("int32", [2147483647]), "y": ("int32", [1])}, SERVED
    ),
    Question(
        "mean-of-nothing",
        "The mean along an axis without elements",
        {"x": ("float32", [[], []])},
        SERVED + " NaN is written as `NaN` in JSON (docs/protocols.md).",
    ),
    Question("max-of-nothing", "The maximum along an axis without elements", {"x": ("float32", [[], []])}, SERVED),
    Question(
        "cast-nan-int32",
        "NaN, infinity and 1e20 as INT32",
        {"x": ("float32", [NAN, INF, 1e20])},
        "Undefined in every framework. The verification skips values whose result in the original is random.",
    ),
    Question(
        "cast-uint8",
        "300.0, -1.0 and 255.9 as UINT8",
        {"x": ("float32", [300.0, -1.0, 255.9])},
        "Clip before the cast. `[preprocess]` clips images.",
    ),
    Question(
        "masked-row",
        "Softmax of a row that contains only -inf, like a fully masked row of attention scores",
        {"x": ("float32", [[-INF, -INF], [0.0, -INF]])},
        FINITE,
    ),
    Question("round-half", "0.5, 1.5, 2.5 and -0.5, rounded", {"x": ("float32", [0.5, 1.5, 2.5, -0.5])}, PROOF),
    Question(
        "argmax-tie",
        "The index of the maximum among equal values",
        {"x": ("float32", [[2.0, 3.0, 3.0, 3.0]])},
        "`compare` and `export` accept either index if the scores are equal.",
    ),
    Question(
        "top-k-tie",
        "The indices of the two largest among equal values",
        {"x": ("float32", [[3.0, 1.0, 3.0, 3.0]])},
        "`compare` and `export` accept either index if the scores are equal.",
    ),
    Question(
        "average-pool-edge",
        "Average pooling of 1, 2, 3, 4 with windows of 3, stride 2 and padding 1",
        {"x": ("float32", [[[1.0, 2.0, 3.0, 4.0]]])},
        PROOF,
    ),
    Question(
        "resize-nearest-up",
        "0…3 enlarged to six values by nearest neighbor (the framework's default)",
        {"x": ("float32", [[[0.0, 1.0, 2.0, 3.0]]])},
        PROOF,
    ),
    Question(
        "resize-nearest-down",
        "0…4 reduced to two values by nearest neighbor (the framework's default)",
        {"x": ("float32", [[[0.0, 1.0, 2.0, 3.0, 4.0]]])},
        PROOF,
    ),
    Question(
        "resize-linear",
        "0, 1, 2, 3 enlarged to six values linearly (the framework's default)",
        {"x": ("float32", [[[0.0, 1.0, 2.0, 3.0]]])},
        PROOF,
    ),
    Question(
        "negative-index",
        "Row -1 of a table with three rows",
        {"x": ("float32", [[1.0], [2.0], [3.0]]), "y": ("int64", [-1])},
        "A request with such an index is refused, or returns what the framework returns. " + PROOF,
    ),
    Question(
        "index-too-large",
        "Row 5 of a table with three rows",
        {"x": ("float32", [[1.0], [2.0], [3.0]]), "y": ("int64", [5])},
        "A request with such an index is refused, or returns what the framework returns. The verification uses indices "
        "within the table only.",
    ),
    Question(
        "power",
        "0 to the power of 0, -8 to the power of 1/3",
        {"x": ("float32", [0.0, -8.0]), "y": ("float32", [0.0, 1 / 3])},
        FINITE,
    ),
    Question(
        "gelu-default", "GELU of -3, -1 and 2 (the framework's default)", {"x": ("float32", [-3.0, -1.0, 2.0])}, PROOF
    ),
    Question("sign-of-nan", "The sign of NaN and of -0", {"x": ("float32", [NAN, -0.0])}, FINITE),
    Question("logarithm-below-zero", "The logarithm of 0 and -1", {"x": ("float32", [0.0, -1.0])}, FINITE),
    Question(
        "normalised-constant",
        "Layer normalization of a constant row (no scale, epsilon 1e-5)",
        {"x": ("float32", [[0.1, 0.1, 0.1]])},
        "Rounding noise is multiplied by 316. The verification measures how much the original itself varies.",
    ),
]
