"""Models in Triton's form: what they find in triton_python_backend_utils, and what they may return."""

import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from runtimes.contract import (
    InvalidInput,
    LoadError,
    Model,
    ModelFailed,
    Request,
    SequenceControl,
    TensorSpec,
    Unsupported,
)
from runtimes.control import BatchingOptions
from runtimes.python import pb_utils
from runtimes.worker.batching_decision import decide_batching
from tests.unit.runtimes.python.test_own_form import _loaded  # noqa: F401 - the fixture

Loader = Callable[..., Model]
X, Y = (TensorSpec("X", "FP32", (-1, 2)),), (TensorSpec("Y", "FP64", (-1, 2)),)
ONES = {"X": np.ones((1, 2), np.float32)}
MODEL = """
import json
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def initialize(self, args):
        self.args, config = args, json.loads(args["model_config"])
        self.dtype = pb_utils.triton_string_to_numpy(pb_utils.get_output_config_by_name(config, "Y")["data_type"])
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            x *= 3
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x.astype(self.dtype))]))
        return responses
"""


def executing(body: str) -> str:
    indented = "\n".join("        " + line for line in body.splitlines())
    return (
        "import triton_python_backend_utils as pb_utils\nclass TritonPythonModel:\n"
        f"    def execute(self, requests):\n{indented}"
    )


def test_a_model_reads_its_configuration_and_may_change_its_inputs(loaded: Loader) -> None:
    model: Any = loaded(MODEL, inputs=X, outputs=Y, max_rows=8, parameters={"k": "v"})
    given = np.ones((3, 2), np.float32)
    answer = model.infer({"X": given}, (), "default")["Y"]
    assert (answer.dtype, answer.tolist()) == (np.float64, [[3.0, 3.0]] * 3)
    assert given.tolist() == [[1.0, 1.0]] * 3
    assert (model._instance.args["model_name"], model._instance.args["model_instance_kind"]) == ("m", "CPU")
    assert '"dims": [2]' in model._instance.args["model_config"]
    assert '"parameters": {"k": {"string_value": "v"}}' in model._instance.args["model_config"]


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ({}, "max_batch_size is not set"),
        ({"max_rows": 8, "batches": False}, "the model's configuration has no dynamic_batching"),
        ({"max_rows": 8}, ""),
    ],
)
def test_requests_are_joined_only_if_triton_would(loaded: Loader, declared: dict[str, Any], why: str) -> None:
    analysis = loaded(MODEL, inputs=X, outputs=Y, **declared).analyze_batch("default")
    assert analysis is not None
    assert analysis.alone == why
    assert not analysis.independent, "a program proves nothing, so audits go on"


COMPLETED = """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_output({"name": "Y", "data_type": "TYPE_FP64", "dims": [2]})
        config.set_max_batch_size(4)
        config.set_dynamic_batching()
        return config
"""


def test_a_configuration_can_come_from_the_model(loaded: Loader) -> None:
    model = loaded(MODEL + COMPLETED)
    assert model.signatures["default"][:2] == (X, Y)
    analysis = model.analyze_batch("default")
    assert analysis is not None
    assert (analysis.max_rows, analysis.alone) == (4, "")
    assert model.infer(ONES, (), "default")["Y"].tolist() == [[3.0, 3.0]]


def test_a_tensor_declared_without_a_shape_may_have_any(loaded: Loader) -> None:
    flag = TensorSpec("START", "FP32")
    model: Any = loaded(MODEL, inputs=(*X, flag), outputs=Y, max_rows=8, parameters={"k": "v"})
    assert model.signatures["default"].inputs == (*X, flag)


def test_an_input_that_the_model_calls_optional_may_be_left_out(loaded: Loader) -> None:
    added = '        config.add_input({"name": "Z", "data_type": "TYPE_FP32", "dims": [2], "optional": True})\n'
    model = loaded(MODEL + COMPLETED.replace("        config.set_max", added + "        config.set_max"))
    assert model.signatures["default"].optional == ("Z",)
    assert model.infer(ONES, (), "default")["Y"].tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("config.set_max_batch_size(5)", "sets max_batch_size to 5, but the model's configuration has 4"),
        ('config.add_input({"name": "X", "data_type": "TYPE_INT8", "dims": [2]})', "gives input 'X' the data_type"),
        ('config.add_input({"name": "Z", "dims": [2]})', "an input that auto_complete_config adds has no 'data_type'"),
        ('config.add_output({"name": "Z", "kind": 1, "data_type": "", "dims": []})', "has the unknown key 'kind'"),
        ('config.add_output({"name": "Z", "data_type": "TYPE_INT2", "dims": []})', "TYPE_INT2, which is not supported"),
        ("config = None", "auto_complete_config returned NoneType, not the ModelConfig"),
    ],
)
def test_contradictions_in_it_are_named(loaded: Loader, line: str, said: str) -> None:
    source = MODEL + COMPLETED.replace("        return config", f"        {line}\n        return config")
    with pytest.raises((LoadError, ValueError), match=said):
        loaded(source)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("pb_utils.TritonError('no good')", ModelFailed),
        ("pb_utils.TritonError('no good', pb_utils.TritonError.INVALID_ARG)", InvalidInput),
        ("pb_utils.TritonError('no good', pb_utils.TritonError.UNSUPPORTED)", Unsupported),
    ],
)
def test_an_error_of_a_response_is_for_its_client(loaded: Loader, error: str, kind: type[Exception]) -> None:
    model = loaded(executing(f"return [pb_utils.InferenceResponse(error={error})]"), inputs=X, outputs=Y)
    with pytest.raises(kind, match=r"^no good$"):
        model.infer(ONES, (), "default")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "execute returned NoneType, not a list of responses"),
        ("return [None]", "execute returned None for a request whose response sender it has not asked for"),
        ("requests[0].get_response_sender()\nreturn [None]", "has dropped a response sender without sending the final"),
        (
            "requests[0].get_response_sender()\nreturn [pb_utils.InferenceResponse([])]",
            "returned a response to a request whose response sender it has asked for",
        ),
        ("requests[0].get_response_sender().send(flags=1)\nreturn None", "has ended a request without a response"),
        ("requests[0].get_response_sender().send()\nreturn None", "needs a response, or the final flag"),
        ("requests[0].get_response_sender().send(flags=2)\nreturn None", "knows no flags but"),
        (
            "s = requests[0].get_response_sender()\nfor _ in 0, 1: s.send(flags=1)",
            "its last response had the final flag",
        ),
        ("return []", "execute returned 0 responses to 1 requests"),
        ("return [1]", "a response is int, not an InferenceResponse"),
        ("return [pb_utils.InferenceResponse([])]", "the response has none, but not 'Y'"),
        ("return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', 1)])]", "Tensor 'Y' is made of int"),
    ],
)
def test_wrong_responses_are_the_models_fault(loaded: Loader, body: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        loaded(executing(body), inputs=X, outputs=Y).infer(ONES, (), "default")


DESCRIBING = """
import json
described = []
for request in requests:
    described.append([request.request_id(), json.loads(request.parameters()), request.correlation_id(), request.flags(),
        request.timeout() > 0, request.is_cancelled(), request.requested_output_names(), request.model_name()])
    request.set_preferred_memory(request.preferred_memory())
self.described = described
return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', pb_utils.get_input_tensor_by_name(each, 'X').as_numpy()
    .astype('float64'))]) for each in requests]
"""


def test_execute_gets_each_request_with_what_its_client_said(loaded: Loader) -> None:
    model: Any = loaded(executing(DESCRIBING), inputs=X, outputs=Y, max_rows=8)
    asked = [
        Request(
            {"X": np.full((rows, 2), rows, np.float32)},
            (),
            f"id {rows}",
            {"k": rows, "t": "ü"},
            SequenceControl("s", True, rows == 2),
            deadline,
        )
        for rows, deadline in ((1, time.monotonic() + 100), (2, float("inf")), (3, 0.0))
    ]
    answers = model.infer_requests(asked, "default")
    assert [answer["Y"].tolist() for answer in answers] == [[[float(rows)] * 2] * rows for rows in (1, 2, 3)]
    assert model._instance.described == [
        ["id 1", {"k": 1, "t": "ü"}, "s", 1, True, False, ["Y"], "m"],
        ["id 2", {"k": 2, "t": "ü"}, "s", 3, False, False, ["Y"], "m"],
        ["id 3", {"k": 3, "t": "ü"}, "s", 1, True, True, ["Y"], "m"],
    ]


MIXED = """
import threading
responses = []
for number, request in enumerate(requests):
    x = pb_utils.get_input_tensor_by_name(request, 'X').as_numpy().astype('float64')
    response = pb_utils.InferenceResponse([pb_utils.Tensor('Y', x)])
    if number == 1:
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError('first', pb_utils.TritonError.INVALID_ARG))
    if number == 3:
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError('second'))
    if number == 2:
        sender = request.get_response_sender()
        arguments = (response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        threading.Thread(target=sender.send, args=arguments).start()
        response = None
        del sender
    responses.append(response)
return responses
"""


def test_errors_and_a_response_that_a_thread_sends_stay_in_order_among_others(loaded: Loader) -> None:
    model = loaded(executing(MIXED), inputs=X, outputs=Y, max_rows=8)
    asked = [Request({"X": np.full((1, 2), number, np.float32)}) for number in range(5)]
    zero, first, two, second, four = model.infer_requests(asked, "default")
    for number, answer in ((0, zero), (2, two), (4, four)):
        assert isinstance(answer, dict)
        assert answer["Y"].tolist() == [[number, number]]
    assert (type(first), str(first), type(second), str(second)) == (InvalidInput, "first", ModelFailed, "second")


def test_an_optional_input_may_be_left_out(loaded: Loader) -> None:
    body = """
import numpy
z = pb_utils.get_input_tensor_by_name(requests[0], 'Z')
return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', numpy.full((1, 2), float(z is None)))])]"""
    both = (*X, TensorSpec("Z", "FP32", (-1, 2)))
    model = loaded(executing(body), inputs=both, outputs=Y, optional=("Z",))
    assert model.signatures["default"].optional == ("Z",)
    assert model.infer(ONES, (), "default")["Y"].tolist() == [[1.0, 1.0]]
    assert model.infer({**ONES, "Z": ONES["X"]}, (), "default")["Y"].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("completed", [False, True])
def test_a_decoupled_model_sends_its_answers_itself(loaded: Loader, completed: bool) -> None:
    source = executing("self.requests = requests")
    if completed:
        source += """
    @staticmethod
    def auto_complete_config(config):
        config.set_model_transaction_policy({"decoupled": True})
        return config
"""
    model = loaded(source, inputs=X, outputs=Y, decoupled=not completed)
    assert (model.decoupled, model.sends_answers, model.takes_requests) == (True, True, True)
    with pytest.raises(Unsupported, match="the model is decoupled"):
        model.infer(ONES, (), "default")


def test_a_model_needs_execute_and_outputs(loaded: Loader) -> None:
    with pytest.raises(LoadError, match="has no method execute"):
        loaded("class TritonPythonModel: pass")


def test_a_model_needs_inputs(loaded: Loader) -> None:
    with pytest.raises(LoadError, match="the model has no inputs: declare them"):
        loaded(executing("return []"))


def test_datatypes_have_the_numbers_and_names_of_triton() -> None:
    assert pb_utils.triton_string_to_numpy("TYPE_FP32") is np.float32
    assert pb_utils.triton_string_to_numpy("TYPE_STRING") is np.object_
    assert [pb_utils.numpy_to_triton_type(each) for each in (np.bool_, np.uint8, np.int64, np.object_)] == [1, 2, 9, 13]
    assert [pb_utils.triton_to_numpy_type(each) for each in (10, 12)] == [np.float16, np.float64]


def test_bfloat16_is_exchanged_by_dlpack() -> None:
    """numpy itself exports no such array, and reads none."""
    given = np.array([[1.0, -0.5, 3e38]], ml_dtypes.bfloat16)
    made = pb_utils.Tensor("t", given)
    assert (made.triton_dtype(), made.shape()) == (14, [1, 3])
    for form in (made.to_dlpack(), made):
        again = pb_utils.Tensor.from_dlpack("u", form).as_numpy()
        assert (again.dtype, again.tolist()) == (given.dtype, given.tolist())
    assert pb_utils.triton_string_to_numpy("TYPE_BF16") == ml_dtypes.bfloat16 == pb_utils.triton_to_numpy_type(14)


def test_tensors_are_exchanged_by_dlpack() -> None:
    made = pb_utils.Tensor.from_dlpack("t", np.arange(3, dtype=np.float32))
    assert (made.name(), made.shape(), made.triton_dtype()) == ("t", [3], 11)
    again = pb_utils.Tensor.from_dlpack("u", made.to_dlpack())
    assert again.as_numpy().tolist() == [0.0, 1.0, 2.0]
    assert pb_utils.Tensor("s", np.array(["a", b"b"], object)).as_numpy().tolist() == [b"a", b"b"]


def test_log_lines_have_their_level(capsys: pytest.CaptureFixture[str]) -> None:
    pb_utils.Logger.log_warn("careful")
    pb_utils.Logger.log("plain")
    pb_utils.Logger.log_verbose("silent")
    assert capsys.readouterr().out == "WARNING: careful\nINFO: plain\n"


@pytest.mark.parametrize(("declares", "max_rows"), [(False, 0), (True, 8)])
def test_the_worker_follows_it_also_where_max_batch_size_is_declared(
    loaded: Loader, declares: bool, max_rows: int
) -> None:
    model = loaded(MODEL, inputs=X, outputs=Y, max_rows=8, batches=declares)
    decision = decide_batching(model, BatchingOptions(max_rows=8, declares_batching=declares))
    assert decision.batching.max_rows == max_rows
    assert not decision.rows_independent
    assert decision.note == (
        "batching up to 8 rows" if declares else "batching is off: the model's configuration has no dynamic_batching"
    )
