"""Which nodes of a TensorFlow Lite graph XNNPACK's operators are taken for."""

from runtimes.tflite.xnnpack import nodes_of


def test_operators_are_taken_for_nodes_of_their_kind_in_order() -> None:
    operators = ["CONV_2D", "MAX_POOL_2D", "CONV_2D", "SOFTMAX"]
    ran = ["Convolution (NHWC, F32) IGEMM", "Max Pooling (NHWC, F32)", "Convolution (NHWC, F32) GEMM", "Softmax (NC)"]

    assert nodes_of(ran, operators) == [0, 1, 2, 3]


def test_an_operator_that_xnnpack_adds_takes_no_node_from_another() -> None:
    assert nodes_of(["Static Reshape (NC)", "Fully Connected (NC)"], ["FULLY_CONNECTED", "RESHAPE"]) == [None, 0]


def test_nodes_that_xnnpack_joins_are_passed_over_and_the_last_one_counts() -> None:
    operators = ["DIV", "MAXIMUM", "MINIMUM", "ADD"]

    assert nodes_of(["Divide (ND)", "Clamp (NC)", "Add (ND)"], operators) == [0, 2, 3]


def test_what_litert_runs_itself_keeps_its_node_and_divides_the_graph() -> None:
    operators = ["ADD", "GATHER", "ADD", "MUL"]

    assert nodes_of([1, "Add (ND)", None, "Multiply (ND)"], operators) == [1, 2, None, 3]


def test_an_operator_that_is_not_in_the_table_has_no_node() -> None:
    assert nodes_of(["Something New (ND)", "Add (ND)"], ["CUSTOM", "ADD"]) == [None, 1]
    assert nodes_of([], ["ADD"]) == nodes_of([], []) == []
