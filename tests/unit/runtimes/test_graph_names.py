"""The names of a graph's nodes."""

from runtimes.profiling import Names, scope_of


def test_names_are_unique_and_usual() -> None:
    names = Names()
    assert names.unique("/layer/conv/Conv") == "layer/conv/Conv"
    assert names.unique("Conv", "layer/conv") == "layer/conv/Conv_1"
    assert names.unique("Conv_1", "layer/conv") == "layer/conv/Conv_1_1"
    assert names.unique("Conv", "layer/conv") == "layer/conv/Conv_2"
    assert names.unique("^serving:0 (x)") == "_serving_0_x_"
    assert names.unique("//") == "unnamed"
    assert scope_of("layer/conv/Conv") == "layer/conv"
    assert scope_of("x") == ""
