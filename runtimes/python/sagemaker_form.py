"""SageMaker's form of a handler, code/inference.py: model_fn loads the model, and the other functions answer a request.

model_fn(model_dir)               loads the model
input_fn(body, content_type)      reads a request
predict_fn(data, model)           runs the model
output_fn(prediction, accept)     writes the answer
transform_fn(model, body, content_type, accept)   does what these three do
"""

import inspect
import os
import sys
from typing import Any, List, Sequence

from runtimes.checks import quoted
from runtimes.contract import InvalidInput, LoadError, LoadOptions
from runtimes.http_messages import STATUS

from .handler_form import Answer, HandlerModel, Message, encoded, enter, guarded, import_program, linked_folder

_DEFAULT_TYPE = "application/json"
_STEPS = ("input_fn", "predict_fn", "output_fn")


def load(options: LoadOptions) -> HandlerModel:
    """Raises LoadError."""
    folder = linked_folder(os.path.dirname(os.path.dirname(options.artifact)))
    enter(folder)
    code = os.path.join(folder, "code")
    sys.path.insert(0, code)
    program = import_program(code, "inference.py")
    wanted = ["model_fn"] if hasattr(program, "transform_fn") else ["model_fn", *_STEPS]
    missing = [name for name in wanted if not hasattr(program, name)]
    if missing:
        raise LoadError(
            "code/inference.py does not define %s, and what SageMaker's containers do without is not known here: "
            "define all of %s" % (quoted(missing), quoted(wanted))
        )
    # Newer containers pass a context as well, which tells which GPU to use.
    extra = (None,) * (len(inspect.signature(program.model_fn).parameters) - 1)
    model = guarded(lambda: program.model_fn(folder, *extra), "model_fn of code/inference.py")
    return HandlerModel(options, _Steps(program, model).call)


class _Steps:
    def __init__(self, program: Any, model: Any) -> None:
        self._program, self._model = program, model

    def call(self, messages: Sequence[Message]) -> List[Answer]:
        try:
            return [self._answer(message) for message in messages]
        except SystemExit as error:
            raise RuntimeError("code/inference.py has called sys.exit") from error

    def _answer(self, message: Message) -> Answer:
        kind = message.headers.get("content-type", _DEFAULT_TYPE)
        accept = message.headers.get("accept", "")
        accept = _DEFAULT_TYPE if accept in ("", "*/*") else accept
        body = _text(message.body, kind) if kind.startswith(("text/", _DEFAULT_TYPE)) else message.body
        if hasattr(self._program, "transform_fn"):
            returned = self._program.transform_fn(self._model, body, kind, accept)
        else:
            data = self._program.input_fn(body, kind)
            returned = self._program.output_fn(self._program.predict_fn(data, self._model), accept)
        if isinstance(returned, tuple) and len(returned) == 2:
            returned, accept = returned
        return Answer(encoded(returned)[0], {"content-type": accept, STATUS: "200"})


def _text(body: bytes, content_type: str) -> str:
    """Raises InvalidInput if a body is not text, although its Content-Type says so."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the body is not UTF-8, which '%.100s' must be" % content_type) from None
