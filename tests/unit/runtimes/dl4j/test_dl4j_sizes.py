"""The shapes of inputs that are inferred from the layers: sizes that only one input would produce."""

from typing import Any

import numpy as np
import pytest

from runtimes.contract import LoadError
from runtimes.dl4j.archive import Archive
from runtimes.dl4j.translate import translate_archive
from tests.unit.runtimes.dl4j import reference
from tests.unit.runtimes.dl4j.configurations import (
    convolution,
    feed,
    graph,
    multi_layer,
    output,
    plain,
    pooling,
    preprocessor,
    recurrent,
    vertex,
)
from tests.unit.runtimes.dl4j.networks import NETWORKS


def input_of(configuration: dict[str, Any]) -> list[int | str]:
    row = np.zeros(reference.parameter_count(configuration), np.float32)
    made = translate_archive(Archive(configuration, row, b""), {})
    return [dim.dim_param or dim.dim_value for dim in made.graph.input[0].type.tensor_type.shape.dim]


def before_rows(*layers: Any, sizes: tuple[int, int, int], form: str = "NCHW") -> dict[str, Any]:
    """The layers, then a preprocessor that expects images of this height, width and number of channels."""
    height, width, channels = sizes
    wanted = preprocessor("CnnToFeedForward", format=form, inputHeight=height, inputWidth=width, numChannels=channels)
    return multi_layer(*layers, output(height * width * channels, 2), before={len(layers): wanted})


@pytest.mark.parametrize(
    ("layers", "sizes", "found"),
    [
        ([convolution(3, 5, [2, 3], convolutionMode="Same")], (7, 9, 5), ["N", 3, 7, 9]),
        ([convolution(3, 5, [2, 3])], (7, 9, 5), ["N", 3, 8, 11]),
        ([convolution(3, 5, [2, 3], padding=[1, 1], dilation=[2, 1])], (7, 9, 5), ["N", 3, 7, 9]),
        # With a stride of two, several heights produce seven rows.
        ([convolution(3, 5, [2, 3], stride=[2, 1])], (7, 9, 5), ["N", 3, "in_2", 11]),
        ([pooling("MAX", [2, 2], [2, 2])], (7, 9, 5), ["N", 5, "in_2", "in_3"]),
        ([plain("Upsampling2D", size=[2, 3], format="NCHW"), convolution(3, 5, [1, 1])], (8, 9, 5), ["N", 3, 4, 3]),
        ([plain("ZeroPaddingLayer", padding=[1, 2, 0, 1]), convolution(3, 5, [1, 1])], (8, 9, 5), ["N", 3, 5, 8]),
        ([plain("Cropping2D", cropping=[1, 2, 0, 1]), convolution(3, 5, [1, 1])], (8, 9, 5), ["N", 3, 11, 10]),
        ([feed("Deconvolution2D", 3, 5, kernelSize=[3, 3], stride=[2, 2], hasBias=True)], (9, 11, 5), ["N", 3, 4, 5]),
    ],
)
def test_sizes_are_traced_back(layers: list[Any], sizes: tuple[int, int, int], found: list[int | str]) -> None:
    assert input_of(before_rows(*layers, sizes=sizes)) == found


def test_channels_last() -> None:
    layer = convolution(3, 5, [2, 3], cnn2dDataFormat="NHWC")
    assert input_of(before_rows(layer, sizes=(7, 9, 5), form="NHWC")) == ["N", 8, 11, 3]


def test_sequences_are_open_in_time() -> None:
    assert input_of(NETWORKS["lstm_output"].configuration) == ["N", 3, "in_2"]
    assert input_of(NETWORKS["lstm_nwc"].configuration) == ["N", "in_1", 3]


def test_steps_that_are_rows_meet_again() -> None:
    """Two branches of one sequence of unknown length."""
    assert input_of(NETWORKS["graph_branches_of_steps"].configuration) == ["N", 3, "in_2"]


def test_a_number_of_steps_is_asked_for() -> None:
    made = NETWORKS["recurrent_attention"]
    with pytest.raises(LoadError, match=r"a fixed number of up to 256 steps: set it in \[\[inputs\]\]"):
        translate_archive(Archive(made.configuration, made.coefficients(), b""), {})


def test_a_recurrent_layer_on_rows_that_may_be_none() -> None:
    """An LSTM whose steps are the features of each time step. The number of time steps must be known not to be zero."""
    made = graph(
        ["in"],
        {
            "rows": (
                vertex("Preprocessor", preProcessor=preprocessor("RnnToFeedForward", rnnDataFormat="NCW")),
                ["in"],
            ),
            "steps": (vertex("Reshape", newShape=[-1, 2, 3], reshapeOrder="c"), ["rows"]),
            "lstm": (recurrent("LSTM", 2, 5), ["steps"]),
            "last": (vertex("LastTimeStep"), ["lstm"]),
            "again": (
                vertex("Preprocessor", preProcessor=preprocessor("FeedForwardToRnn", rnnDataFormat="NCW")),
                ["last"],
            ),
        },
        ["again"],
    )
    archive = Archive(made, np.zeros(reference.parameter_count(made), np.float32), b"")
    assert translate_archive(archive, {"in": (-1, 6, 4)})
    with pytest.raises(LoadError, match="its rows are time steps, whose number is dynamic"):
        translate_archive(archive, {"in": (-1, 6, -1)})
