"""Networks with input preprocessors. An identity activation before them shows the plain reordering."""

from typing import Any

from tests.unit.runtimes.dl4j.configurations import activation, dense, multi_layer, plain, preprocessor
from tests.unit.runtimes.dl4j.network import Network, single

SAME = plain("ActivationLayer", activationFn=activation("Identity"))
IMAGE = {"inputHeight": 5, "inputWidth": 7, "numChannels": 3}


def after(conf: dict[str, Any], *shape: int) -> Network:
    """Return a network with this preprocessor alone."""
    return single(multi_layer(SAME, before={0: conf}), *shape)


PREPROCESSOR: dict[str, Network] = {
    "cnn_to_ff": after(preprocessor("CnnToFeedForward", format="NCHW", **IMAGE), 2, 3, 5, 7),
    "cnn_to_ff_nhwc": after(preprocessor("CnnToFeedForward", format="NHWC", **IMAGE), 2, 5, 7, 3),
    "ff_to_cnn": after(preprocessor("FeedForwardToCnn", **IMAGE), 2, 105),
    "rnn_to_ff": after(preprocessor("RnnToFeedForward", rnnDataFormat="NCW"), 4, 3, 5),
    "rnn_to_ff_nwc": after(preprocessor("RnnToFeedForward", rnnDataFormat="NWC"), 4, 5, 3),
    # One row per step, and back: the batch is that of the network's input.
    **{
        f"rnn_to_ff_to_rnn{suffix}": single(
            multi_layer(
                dense(3, 2),
                SAME,
                before={
                    0: preprocessor("RnnToFeedForward", rnnDataFormat=layout),
                    1: preprocessor("FeedForwardToRnn", rnnDataFormat=layout),
                },
            ),
            *shape,
        )
        for suffix, layout, shape in (("", "NCW", (4, 3, 5)), ("_nwc", "NWC", (4, 5, 3)))
    },
    "rnn_to_cnn": after(preprocessor("RnnToCnn", rnnDataFormat="NCW", **IMAGE), 4, 105, 2),
    "rnn_to_cnn_to_rnn": single(
        multi_layer(
            SAME,
            SAME,
            before={
                0: preprocessor("RnnToCnn", rnnDataFormat="NCW", **IMAGE),
                1: preprocessor("CnnToRnn", rnnDataFormat="NWC", **IMAGE),
            },
        ),
        *(4, 105, 2),
    ),
    "composable_images": after(
        preprocessor(
            "ComposableInput",
            inputPreProcessors=[
                preprocessor("CnnToFeedForward", format="NCHW", **IMAGE),
                preprocessor("FeedForwardToCnn", inputHeight=3, inputWidth=7, numChannels=5),
            ],
        ),
        *(4, 3, 5, 7),
    ),
    "composable": after(
        preprocessor(
            "ComposableInput",
            inputPreProcessors=[
                preprocessor("RnnToCnn", rnnDataFormat="NCW", **IMAGE),
                preprocessor("CnnToFeedForward", format="NCHW", **IMAGE),
            ],
        ),
        *(4, 105, 2),
    ),
    "cnn3d_to_ff": after(
        preprocessor("Cnn3DToFeedForward", inputDepth=2, isNCDHW=True, ncdhw=True, **IMAGE), 2, 3, 2, 5, 7
    ),
    "ff_to_cnn3d": after(preprocessor("FeedForwardToCnn3D", inputDepth=2, isNCDHW=True, ncdhw=True, **IMAGE), 2, 210),
    "ff_to_cnn3d_channels_last": after(
        preprocessor("FeedForwardToCnn3D", inputDepth=2, isNCDHW=False, ncdhw=False, **IMAGE), 2, 210
    ),
}

# With miniBatch off, all rows become one example.
PREPROCESSOR["rnn_to_ff_to_rnn_without_mini_batch"] = single(
    multi_layer(
        dense(3, 2),
        SAME,
        before={
            0: preprocessor("RnnToFeedForward", rnnDataFormat="NCW"),
            1: preprocessor("FeedForwardToRnn", rnnDataFormat="NCW"),
        },
    ),
    *(4, 3, 5),
)
for each in PREPROCESSOR["rnn_to_ff_to_rnn_without_mini_batch"].configuration["confs"]:
    each["miniBatch"] = False
