"""Networks over sequences."""

from typing import Any

from tests.unit.runtimes.dl4j.configurations import (
    LOSS,
    activation,
    bidirectional,
    dense,
    feed,
    layer,
    multi_layer,
    output,
    plain,
    preprocessor,
    recurrent,
    wrapper,
)
from tests.unit.runtimes.dl4j.network import Network, single

NWC = {"rnnDataFormat": "NWC"}


def sequences(*layers: dict[str, Any], shape: tuple[int, ...] = (4, 3, 7)) -> Network:
    """[N, features, T]"""
    return single(multi_layer(*layers), *shape)


def rnn_output(n_in: int, n_out: int, **fields: Any) -> dict[str, Any]:
    values = {"hasBias": True, "lossFn": LOSS, "rnnDataFormat": "NCW"}
    return feed("RnnOutputLayer", n_in, n_out, "Softmax", **{**values, **fields})


SIMPLE = recurrent("SimpleRnn", 3, 5)
LSTM = recurrent("LSTM", 3, 5)
LATE = (4, 7, 3)  # [N, T, features]

RECURRENT: dict[str, Network] = {
    "lstm": sequences(LSTM),
    "lstm_null_format": sequences(recurrent("LSTM", 3, 5, rnnDataFormat=None)),
    "lstm_output": sequences(LSTM, rnn_output(5, 2)),
    "lstm_activations": sequences(recurrent("LSTM", 3, 5, "SoftSign", gateActivationFn=activation("HardSigmoid"))),
    "lstm_nwc": sequences(recurrent("LSTM", 3, 5, **NWC), rnn_output(5, 2, **NWC), shape=LATE),
    "lstm_one_step": sequences(LSTM, shape=(4, 3, 1)),
    "graves_lstm": sequences(recurrent("GravesLSTM", 3, 5), rnn_output(5, 2)),
    "graves_lstm_activations": sequences(
        recurrent("GravesLSTM", 3, 5, "SoftSign", gateActivationFn=activation("HardSigmoid"))
    ),
    "graves_bidirectional": sequences(recurrent("GravesBidirectionalLSTM", 3, 5), rnn_output(5, 2)),
    "simple_rnn": sequences(SIMPLE),
    "simple_rnn_layer_norm": sequences(recurrent("SimpleRnn", 3, 5, hasLayerNorm=True)),
    "simple_rnn_nwc": sequences(recurrent("SimpleRnn", 3, 5, **NWC), shape=LATE),
    **{
        f"bidirectional_{mode.lower()}": sequences(bidirectional(mode, LSTM))
        for mode in ("ADD", "MUL", "AVERAGE", "CONCAT")
    },
    "bidirectional_simple_rnn": sequences(bidirectional("CONCAT", SIMPLE), rnn_output(10, 2)),
    "bidirectional_graves_lstm": sequences(bidirectional("CONCAT", recurrent("GravesLSTM", 3, 5))),
    "bidirectional_nwc": sequences(bidirectional("CONCAT", recurrent("LSTM", 3, 5, **NWC)), shape=LATE),
    "bidirectional_last_step": sequences(bidirectional("CONCAT", wrapper("LastTimeStep", LSTM))),
    "last_step": sequences(wrapper("LastTimeStep", LSTM), output(5, 2)),
    "last_step_nwc": sequences(wrapper("LastTimeStep", recurrent("LSTM", 3, 5, **NWC)), output(5, 2), shape=LATE),
    "last_step_bidirectional": sequences(wrapper("LastTimeStep", bidirectional("CONCAT", LSTM)), output(10, 2)),
    "time_distributed": sequences(wrapper("TimeDistributed", dense(3, 5), rnnDataFormat="NCW"), rnn_output(5, 2)),
    "time_distributed_nwc": sequences(wrapper("TimeDistributed", dense(3, 5), rnnDataFormat="NWC"), shape=LATE),
    "rnn_loss": sequences(LSTM, layer("RnnLossLayer", "Softmax", lossFn=LOSS, nin=0, nout=0, rnnDataFormat="NCW")),
    "mask_zero": Network(
        multi_layer(wrapper("MaskZeroLayer", LSTM, maskingValue=0.0)), {"input": (4, 3, 7)}, zeros={"input": 2}
    ),
    "mask_zero_simple_rnn_nwc": Network(
        multi_layer(wrapper("MaskZeroLayer", recurrent("SimpleRnn", 3, 5, **NWC), maskingValue=0.0)),
        {"input": LATE},
        zeros={"input": 1},
    ),
    "mask_zero_last_step": Network(
        multi_layer(wrapper("LastTimeStep", wrapper("MaskZeroLayer", LSTM, maskingValue=0.0)), output(5, 2)),
        {"input": (4, 3, 7)},
        zeros={"input": 2},
    ),
    "lstm_global_pooling": sequences(
        LSTM,
        plain("GlobalPoolingLayer", collapseDimensions=True, pnorm=2, poolingDimensions=None, poolingType="AVG"),
        output(5, 2),
    ),
    "repeat_vector": sequences(plain("RepeatVector", dataFormat="NCW", n=5, nin=3, nout=3), shape=(4, 3)),
    "repeat_vector_nwc": sequences(plain("RepeatVector", dataFormat="NWC", n=5, nin=3, nout=3), shape=(4, 3)),
    "embedding_sequence": Network(
        multi_layer(
            feed(
                "EmbeddingSequenceLayer",
                11,
                3,
                "Identity",
                hasBias=False,
                inferInputLength=True,
                inputLength=1,
                outputFormat="NCW",
            ),
            LSTM,
        ),
        {"input": (4, 7)},
        indices={"input": 11},
    ),
    "embedding_sequence_bias_nwc": Network(
        multi_layer(
            feed(
                "EmbeddingSequenceLayer",
                11,
                3,
                "TanH",
                hasBias=True,
                inferInputLength=False,
                inputLength=7,
                outputFormat="NWC",
            ),
        ),
        {"input": (4, 1, 7)},
        indices={"input": 11},
    ),
    "lstm_dense_lstm": single(
        multi_layer(
            LSTM,
            dense(5, 2),
            recurrent("LSTM", 2, 3),
            before={
                1: preprocessor("RnnToFeedForward", rnnDataFormat="NCW"),
                2: preprocessor("FeedForwardToRnn", rnnDataFormat="NCW"),
            },
        ),
        *(4, 3, 7),
    ),
}


def attention(name: str, **fields: Any) -> dict[str, Any]:
    values = {"headSize": 2, "nheads": 4, "nin": 3, "nout": 5, "projectInput": True}
    return plain(name, **{"biasUpdater": None, "paramWeightInit": None, "regularization": [], **values, **fields})


RECURRENT |= {
    "self_attention": sequences(attention("SelfAttentionLayer")),
    "self_attention_plain": sequences(attention("SelfAttentionLayer", projectInput=False, nheads=1, nout=3)),
    "learned_self_attention": sequences(attention("LearnedSelfAttentionLayer", nqueries=2)),
    "learned_self_attention_plain": sequences(
        attention("LearnedSelfAttentionLayer", projectInput=False, nheads=1, nout=3, nqueries=2)
    ),
    "recurrent_attention": sequences(attention("RecurrentAttentionLayer", activation="TANH", hasBias=True)),
    "recurrent_attention_without_bias": sequences(
        attention("RecurrentAttentionLayer", activation="SIGMOID", hasBias=False)
    ),
    "recurrent_attention_plain": sequences(
        attention("RecurrentAttentionLayer", activation="TANH", hasBias=True, projectInput=False, nheads=1, nout=3)
    ),
}
