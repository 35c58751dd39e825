"""TensorFlow Lite models, run by LiteRT.

Names, datatypes and shapes come from the SignatureDefs in the file, of which `serving_default` is the default, or else
the first by name. Without SignatureDefs, they come from the tensors of the first subgraph. Sizes that the file leaves
open are dynamic; others are fixed, even if the graph would support more. Quantized inputs and outputs are the integers
in the file. A signature that cannot run is not served, which is logged, as long as another one can.

State that tensors keep between runs (that of recurrent layers) is reset before each run, because it belongs to another
request. parameters.keep_state turns that off.
"""

import re
from typing import Dict, List, Optional, Sequence

import numpy as np

from runtimes.checks import (
    check_input,
    declared_inputs,
    declared_outputs,
    known_parameters,
    parameter,
    quoted,
    wanted_outputs,
)
from runtimes.contract import (
    NARROW_RANGES,
    BatchAnalysis,
    InputRange,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    numpy_dtype,
)

from .analysis.ranges import input_ranges
from .analysis.read import analyze
from .analysis.state import writes
from .entries import Entry, read
from .runner import LiteRtError, Runner, client_message

_MAX_REASONS = 8
_CUSTOM = re.compile(r"unresolved custom op: (\S+?)\.?(?:\s|$)")
_FLEX = re.compile(r"Select TensorFlow op|Flex delegate|regular TensorFlow ops", re.IGNORECASE)


def load(options: LoadOptions) -> "LiteRtModel":
    known_parameters(options.parameters, ["keep_state"])
    keeps_state = parameter(options.parameters, "keep_state", (False, True))
    if options.device != "cpu":
        raise LoadError("LiteRT is only supported on the CPU: 'device' in model.toml must be \"cpu\"")
    # Given a path, LiteRT would map the file, and overwriting it would change a running model.
    with open(options.artifact, "rb") as file:
        content = file.read()
    if not content:
        raise LoadError("the file is empty")
    runner = Runner(content, options.threads)
    try:
        runner.start()
        found, flex, has_state = read(content)
        writing = {name: writes(content, entry.subgraph, keeps_state) for name, entry in found.items()}
    except Exception as error:  # whatever it is, loading this file again would fail again
        raise LoadError("LiteRT cannot load this model: %s" % client_message(error)) from error
    problems = {name: entry.problem or _preparation_problem(runner, entry, flex) for name, entry in found.items()}
    entries = {name: entry for name, entry in found.items() if not problems[name]}
    if not entries:
        raise LoadError("LiteRT cannot serve this model: %s" % next(iter(problems.values())))
    for name in problems:
        if problems[name]:
            print("the signature '%s' is not served: %s" % (name, problems[name]))
    runner.resets = has_state and not keeps_state
    runner.may_restart = not any(writing[name] for name in entries)
    return LiteRtModel(runner, content, entries, writing, options)


def _preparation_problem(runner: Runner, entry: Entry, flex: Sequence[str]) -> str:
    """Return why this signature's subgraph cannot run; "" if it can."""
    try:
        runner.prepare(entry.subgraph)
    except LiteRtError as error:
        custom = sorted(set(_CUSTOM.findall(str(error))))
        if _FLEX.search(str(error)) or set(custom) & set(flex):
            return "it needs TensorFlow's own operators %s (Flex), which LiteRT lacks" % quoted(flex)
        if custom:
            return "it needs the custom operator %s, which LiteRT lacks" % quoted(custom)
        return client_message(error)
    return ""


class LiteRtModel(Model):
    def __init__(
        self,
        runner: Runner,
        content: bytes,
        entries: Dict[str, Entry],
        writing: Dict[str, List[str]],
        options: LoadOptions,
    ) -> None:
        self._runner = runner
        self.content = content
        self.options = options
        self._writing = writing
        self.entries = entries
        self.signatures = {name: entry.signature for name, entry in entries.items()}
        name, default = next(iter(self.signatures.items()))
        self.signatures[name] = default._replace(
            inputs=declared_inputs(options.inputs, default.inputs, resizable=True),
            outputs=declared_outputs(options.outputs, default.outputs),
        )

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        found = analyze(self.content, self.entries[signature], self.signatures[signature])
        return found._replace(writes=tuple(self._writing[signature][:_MAX_REASONS]))

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return input_ranges(self.content, self.entries[signature])

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        name = signature or next(iter(self.signatures))
        if name not in self.entries:
            raise InvalidInput("the model has no signature '%s'" % name)
        entry, served = self.entries[name], self.signatures[name]
        names = wanted_outputs(outputs, [spec.name for spec in served.outputs])
        # LiteRT does not check dimensions against those in the file.
        arrays = {entry.inputs[spec.name]: check_input(spec, inputs) for spec in served.inputs}
        try:
            results = self._runner.run(entry.subgraph, arrays, [entry.outputs[output] for output in names])
        except LiteRtError as error:
            # Datatypes and fixed sizes match, so a node does not support a dynamic size or a value of this request.
            raise InvalidInput(client_message(error)) from error
        datatypes = {spec.name: spec.datatype for spec in served.outputs}
        for position, name in enumerate(names):
            if datatypes[name] in NARROW_RANGES:  # LiteRT returns INT8
                results[position] = results[position].astype(numpy_dtype(datatypes[name]))
        return dict(zip(names, results))
