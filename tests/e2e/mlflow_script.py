"""Runs in mlflow's own environment: `PYTHON mlflow_script.py save FOLDER TORCH`, then `… score FOLDER TORCH URL`.

TORCH: a folder with PyTorch, which is not installed a second time only for this.
"""

import json
import os
import sys
import warnings

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
VERB, FOLDER, TORCH, *URL = sys.argv[1:]
sys.path.append(TORCH)
warnings.simplefilter("ignore")

import mlflow.onnx  # noqa: E402
import mlflow.pyfunc  # noqa: E402
import mlflow.pytorch  # noqa: E402
import mlflow.sklearn  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import pandas as pd  # noqa: E402
import requests  # noqa: E402
import torch  # noqa: E402
from mlflow.models import ModelSignature, infer_signature  # noqa: E402
from mlflow.pyfunc import scoring_server  # noqa: E402
from mlflow.pyfunc.scoring_server.client import ScoringServerClient  # noqa: E402
from mlflow.types import ColSpec, Schema  # noqa: E402
from sklearn.compose import make_column_transformer  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

PACKAGES = ["mlflow-skinny==3.17.2", "pandas==2.3.3", "scikit-learn==1.8.0", "numpy==2.4.6"]
PEOPLE = pd.DataFrame({"age": [20, 30, 40, 50], "height": [1.5, 1.6, 1.7, 1.8], "city": ["a", "b", "a", "b"]})


class Events(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        rows = model_input["at"].dt.year.fillna(0).astype("int64")
        sizes = np.array([len(each) for each in model_input["blob"]], "int64")
        note = model_input["note"] if "note" in model_input else pd.Series(["none"] * len(rows))
        return pd.DataFrame({"year": rows + int(params["offset"]), "size": sizes, "note": note.str.upper()})


class Named(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return {"total": model_input["inputs"].sum(axis=1)}


def save():
    labels = [0, 1, 0, 1]
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city"]), (StandardScaler(), ["age", "height"])
    )
    people = make_pipeline(columns, LogisticRegression()).fit(PEOPLE, labels)
    options = {"pip_requirements": PACKAGES}
    pickled = {**options, "serialization_format": "cloudpickle"}
    mlflow.sklearn.save_model(people, f"{FOLDER}/people/1", signature=infer_signature(PEOPLE, labels), **pickled)
    x = np.random.default_rng(0).random((20, 4))
    matrix = LinearRegression().fit(x, x.sum(axis=1))
    mlflow.sklearn.save_model(matrix, f"{FOLDER}/matrix/1", signature=infer_signature(x, matrix.predict(x)), **pickled)
    mlflow.sklearn.save_model(matrix, f"{FOLDER}/bare/1", **pickled)
    with open(f"{FOLDER}/bare/model.toml", "w") as file:
        file.write('[[inputs]]\nname = "x"\ndatatype = "FP64"\nshape = [-1, 4]\n')
    named = infer_signature({"inputs": x}, {"total": x.sum(axis=1)})
    mlflow.pyfunc.save_model(f"{FOLDER}/named/1", python_model=Named(), signature=named, **options)
    required = [ColSpec("datetime", "at"), ColSpec("binary", "blob"), ColSpec("string", "note", required=False)]
    answers = Schema([ColSpec("long", "year"), ColSpec("long", "size"), ColSpec("string", "note")])
    signature = ModelSignature(Schema(required), answers, infer_signature(None, params={"offset": 0}).params)
    mlflow.pyfunc.save_model(f"{FOLDER}/events/1", python_model=Events(), signature=signature, **options)
    mlflow.onnx.save_model(gemm(), f"{FOLDER}/onnx_tensor/1", signature=onnx_signature(), **options)
    table = infer_signature(pd.DataFrame({"a": [1.0], "b": [2.0], "c": [3.0]}), pd.DataFrame({"y": [0.1]}))
    mlflow.onnx.save_model(gemm(), f"{FOLDER}/onnx_table/1", signature=table, **options)
    module = torch.nn.Linear(3, 2)
    example = np.zeros((2, 3), np.float32)
    signature = infer_signature(example, np.zeros((2, 2), np.float32))
    scripted = {**options, "signature": signature, "serialization_format": "pickle"}
    mlflow.pytorch.save_model(torch.jit.script(module), f"{FOLDER}/scripted/1", **scripted)
    mlflow.pytorch.save_model(module, f"{FOLDER}/exported/1", signature=signature, input_example=example, **options)


def gemm():
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = [helper.make_tensor("w", floats, [3, 1], [1, 2, 3]), helper.make_tensor("b", floats, [1], [0.5])]
    x, y = (helper.make_tensor_value_info(name, floats, ["n", size]) for name, size in (("x", 3), ("y", 1)))
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_signature():
    return infer_signature({"x": np.zeros((2, 3), np.float32)}, {"y": np.zeros((2, 1), np.float32)})


ABC = {"columns": ["c", "a", "b"], "data": [[3.0, 1.0, 2.0], [6.0, 4.0, 5.0]]}
MATRIX = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.5]]
ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]
EVENT = {"at": "2024-05-31T12:00:00", "blob": "AP8="}
BODIES = {
    "people": [
        {"dataframe_split": PEOPLE.to_dict(orient="split")},
        {"dataframe_split": PEOPLE[["city", "height", "age"]].to_dict(orient="split")},
        {"dataframe_records": PEOPLE.assign(other=1).to_dict(orient="records")},
        {"inputs": PEOPLE.to_dict(orient="list")},
        {"inputs": PEOPLE.to_dict(orient="records")},
        {"instances": PEOPLE.to_dict(orient="records")},
        PEOPLE.to_csv(index=False),
    ],
    "matrix": [{"inputs": MATRIX}, {"instances": MATRIX}],
    "bare": [{"inputs": MATRIX}],
    "named": [{"inputs": MATRIX}, {"inputs": {"inputs": MATRIX}}, {"instances": [{"inputs": MATRIX[1]}]}],
    "events": [
        {"dataframe_records": [EVENT, {**EVENT, "at": "1999-01-01T00:00:00", "blob": ""}], "params": {"offset": 5}},
        {"dataframe_records": [{**EVENT, "note": "é"}]},
        {"dataframe_records": [EVENT, {**EVENT, "at": None}]},
        {"dataframe_records": [{**EVENT, "at": ""}]},
        {"dataframe_split": {"columns": ["note", "blob", "at"], "data": [["x", "AAAA", "2024-05-31T12:00:00.25"]]}},
    ],
    "onnx_tensor": [{"inputs": {"x": ROWS}}, {"inputs": ROWS}, {"instances": ROWS}, {"instances": [{"x": ROWS[0]}]}],
    "onnx_table": [{"dataframe_split": ABC}, "b,c,a\n2,3,1\n5,6,4\n"],
    "scripted": [{"inputs": ROWS}, {"instances": ROWS}],
    "exported": [{"inputs": ROWS}, {"instances": ROWS}],
}


def score(url):
    for name, bodies in BODIES.items():
        model = mlflow.pyfunc.load_model(f"{FOLDER}/{name}/1")
        for body in bodies:
            kind, text = ("text/csv", body) if isinstance(body, str) else ("application/json", json.dumps(body))
            expected = scoring_server.invocations(text, kind, model, model.metadata.get_input_schema())
            headers = {"Content-Type": kind, "X-Amzn-SageMaker-Target-Model": name}
            reply = requests.post(f"{url}/invocations", text.encode(), headers=headers, timeout=60)
            assert (reply.status_code, expected.status) == (200, 200), (name, body, reply.text, expected)
            agree(json.loads(expected.response), reply.json(), f"{name}: {body}")
    host, port = url.removeprefix("http://").split(":")
    client = ScoringServerClient(host, port)
    client.wait_server_ready()
    assert client.get_version()
    assert client.invoke(PEOPLE).get_predictions(predictions_format="ndarray").tolist() == [0, 1, 0, 1]
    try:
        client.invoke(PEOPLE.drop(columns="city"))
        raise AssertionError("an error was expected")
    except Exception as error:
        assert "the column 'city' is missing" in str(error), error

    # It cannot be in nanoseconds, and must not become another date.
    event = json.dumps({"dataframe_records": [{**EVENT, "at": "1500-01-01T00:00:00"}]})
    headers = {"Content-Type": "application/json", "X-Amzn-SageMaker-Target-Model": "events"}
    refused = requests.post(f"{url}/invocations", event, headers=headers, timeout=60)
    assert (refused.status_code, "not a date" in refused.text) == (400, True), refused.text


def agree(expected, found, what):
    """The same structure, and numbers that are equal to the precision of FP32."""
    if isinstance(expected, dict):
        assert list(expected) == list(found), (what, expected, found)
        expected, found = list(expected.values()), list(found.values())
    if isinstance(expected, list):
        assert isinstance(found, list), (what, expected, found)
        assert len(expected) == len(found), (what, expected, found)
        for one, other in zip(expected, found, strict=True):
            agree(one, other, what)
    elif isinstance(expected, float):
        assert abs(expected - found) <= 1e-6 * max(1, abs(expected)), (what, expected, found)
    else:
        assert expected == found, (what, expected, found)


if VERB == "save":
    save()
else:
    score(*URL)
print("all of it worked")
