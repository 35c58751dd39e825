"""Makes tokenizer.json, and text_encoder, an ONNX model that turns token ids into a vector.

Both learn from the paragraphs in docs/: the tokenizer which words occur, and the encoder by latent semantic analysis
which of them occur together. So it knows the language of this documentation, and little else.

    pip install numpy onnx scikit-learn tokenizers; python make_encoder.py
"""

import re
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent
WORDS, DIMENSIONS = 2500, 48


def paragraphs() -> list[str]:
    texts = [file.read_text() for file in sorted((HERE.parents[1] / "docs").rglob("*.md"))]
    prose = [re.sub(r"```.*?```", "", text, flags=re.DOTALL) for text in texts]
    return [part for text in prose for part in re.split(r"\n\s*\n|\n- ", text) if len(part.split()) > 8]


def train_tokenizer(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=WORDS, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def embeddings(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Return a vector for each token: [tokens, DIMENSIONS]. Frequent tokens, which mean little, have short ones."""
    counts = np.zeros((len(texts), tokenizer.get_vocab_size()))
    for row, found in enumerate(tokenizer.encode_batch(texts)):
        np.add.at(counts[row], found.ids, 1)
    weights = TfidfTransformer(sublinear_tf=True).fit(counts)
    analysis = TruncatedSVD(DIMENSIONS, random_state=0).fit(weights.transform(counts))
    vectors = analysis.components_.T * weights.idf_[:, None]
    vectors[[tokenizer.token_to_id("[PAD]"), tokenizer.token_to_id("[UNK]")]] = 0
    return vectors


def build(vectors: np.ndarray) -> onnx.ModelProto:
    table = vectors.astype(np.float16)
    constants = {"table": table, "last": np.array([-1], np.int64), "tokens": np.array([1], np.int64)}
    nodes = [
        helper.make_node("Cast", ["table"], ["vectors"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["vectors", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["present"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["present", "last"], ["weight"]),
        helper.make_node("Mul", ["each", "weight"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "tokens"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["vector"], axis=-1, p=2),
    ]
    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        nodes,
        "text_encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", DIMENSIONS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    corpus = paragraphs()
    trained = train_tokenizer(corpus)
    trained.save(str(HERE / "repository" / "tokenizer" / "1" / "tokenizer.json"), pretty=False)
    made = build(embeddings(trained, corpus))
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, HERE / "repository" / "text_encoder" / "1" / "model.onnx")
    print(f"{len(corpus)} paragraphs, {trained.get_vocab_size()} tokens")
