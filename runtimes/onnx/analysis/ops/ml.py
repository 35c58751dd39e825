"""Operators of classical machine learning."""

from typing import Any

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.sizes import fresh
from runtimes.dataflow.values import Value, repeats, unsure, without_contents
from runtimes.dataflow.walk import Call

from ..operators import rule

_ML = "ai.onnx.ml"


@rule("Binarizer", "LabelEncoder", "CategoryMapper", domain=_ML)
def elements(call: Call) -> Value:
    return elementwise(call.at, call[0])


@rule("Scaler", "Normalizer", "Imputer", domain=_ML)
def features(call: Call) -> Value:
    """Normalize by feature, in the second dimension. A vector is not followed, because it would be a single row."""
    if call[0].rank != 2:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.along(call.at, call[0], [1], "normalizes over")


@rule(
    "LinearClassifier LinearRegressor SVMClassifier SVMRegressor TreeEnsemble",
    "TreeEnsembleClassifier TreeEnsembleRegressor",
    domain=_ML,
)
def estimator(call: Call) -> Any:
    count = len(call.node.outputs)
    if call[0].rank != 2:
        return [unsure("%s is not followed" % call.at, call.present)] * count
    ranks = [1, 2] if call.node.operator.endswith("Classifier") else [2]
    return computing.batch_first(call.at, call.present, ranks[:count])


@rule("OneHotEncoder", domain=_ML)
def one_hot(call: Call) -> Value:
    value = call[0]
    if value.tainted or value.dims is None:
        return unsure("%s is not followed" % call.at, call.present)
    added = shaping.unsqueeze(call.at, without_contents(call.at, value), [-1])
    if added.tainted:
        return added
    return added._replace(dims=(added.dims or ())[:-1] + (fresh(),))


@rule("FeatureVectorizer", domain=_ML)
def vectorizer(call: Call) -> Value:
    if any(value.rank != 2 for value in call.present):
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [2])[0]


@rule("ArrayFeatureExtractor", domain=_ML)
def extractor(call: Call) -> Value:
    value, indices = call[0], call[1]
    if value.rank != 2 or indices.has_rows or indices.tainted or repeats(indices):
        return unsure("%s is not followed" % call.at, call.present)
    return computing.along(call.at, value, [1], "takes some of", None)


@rule("ZipMap", domain=_ML)
def zip_map(call: Call) -> Value:
    return call[0]  # a map for each row; outputs of this kind cannot be served
