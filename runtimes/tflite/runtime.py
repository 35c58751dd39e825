"""TensorFlow Lite models, run by LiteRT.

Names, datatypes and shapes come from the file: from its SignatureDefs, of which `serving_default` is
the default, else the first by name; where there is none, from the first subgraph's own tensors. Sizes
that the file leaves open are any; others are fixed, whatever the graph could do. Quantised inputs and
outputs are the integers that the file has. A signature that cannot run here is left out, with a line in
the log, as long as another one can.

State that tensors keep from one run to the next (that of recurrent layers) is reset before each, since
it would be another request's; parameters.keep_state turns that off.
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
from runtimes.contract import BatchAnalysis, InputRange, InvalidInput, LoadError, LoadOptions, Model, Signature

from .analysis.ranges import input_ranges
from .analysis.read import analyze
from .analysis.state import writes
from .entries import Entry, read
from .runner import Failed, Runner, sentence

_MAX_REASONS = 8
_CUSTOM = re.compile(r"unresolved custom op: (\S+?)\.?(?:\s|$)")
_FLEX = re.compile(r"Select TensorFlow op|Flex delegate|regular TensorFlow ops", re.IGNORECASE)


def load(options: LoadOptions) -> Model:
    known_parameters(options.parameters, ["keep_state"])
    keeps_state = parameter(options.parameters, "keep_state", (False, True))
    if options.device != "cpu":
        raise LoadError("LiteRT runs on the CPU alone here: 'device' in model.toml must be \"cpu\"")
    # Not by its path: that maps the file, and one that is overwritten would change under a running model.
    with open(options.artifact, "rb") as file:
        content = file.read()
    if not content:
        raise LoadError("the file is empty")
    runner = Runner(content, options.threads)
    try:
        runner.start()
        told, flex, has_state = read(content)
        writing = {name: writes(content, entry.subgraph, keeps_state) for name, entry in told.items()}
    except Exception as error:  # whatever it is, this file will not load the next time either
        raise LoadError("LiteRT cannot load this model: %s" % sentence(error)) from error
    problems = {name: entry.problem or _unprepared(runner, entry, flex) for name, entry in told.items()}
    entries = {name: entry for name, entry in told.items() if not problems[name]}
    if not entries:
        raise LoadError("LiteRT cannot serve this model: %s" % next(iter(problems.values())))
    for name in problems:
        if problems[name]:
            print("the signature '%s' is left out: %s" % (name, problems[name]))
    runner.resets = has_state and not keeps_state
    runner.may_restart = not any(writing[name] for name in entries)
    return LiteRtModel(runner, content, entries, writing, options)


def _unprepared(runner: Runner, entry: Entry, flex: Sequence[str]) -> str:
    """Why this signature's subgraph cannot run; empty if it can."""
    try:
        runner.prepare(entry.subgraph)
    except Failed as error:
        custom = sorted(set(_CUSTOM.findall(str(error))))
        if _FLEX.search(str(error)) or set(custom) & set(flex):
            return "it needs TensorFlow's own operators %s (Flex), which LiteRT lacks" % quoted(flex)
        if custom:
            return "it needs the custom operator %s, which LiteRT lacks" % quoted(custom)
        return sentence(error)
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
        self._content = content
        self._writing = writing
        self._entries = entries
        self.signatures = {name: entry.signature for name, entry in entries.items()}
        default, told = next(iter(self.signatures.items()))
        self.signatures[default] = Signature(
            declared_inputs(options.inputs, told.inputs, resizable=True),
            declared_outputs(options.outputs, told.outputs),
            told.refused,
        )

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        found = analyze(self._content, self._entries[signature], self.signatures[signature])
        return found._replace(writes=tuple(self._writing[signature][:_MAX_REASONS]))

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return input_ranges(self._content, self._entries[signature])

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        name = signature or next(iter(self.signatures))
        if name not in self._entries:
            raise InvalidInput("the model has no signature '%s'" % name)
        entry, told = self._entries[name], self.signatures[name]
        wanted = wanted_outputs(outputs, [spec.name for spec in told.outputs])
        # LiteRT itself checks no dimension against what the file says.
        arrays = {entry.inputs[spec.name]: check_input(spec, inputs) for spec in told.inputs}
        try:
            results = self._runner.run(entry.subgraph, arrays, [entry.outputs[output] for output in wanted])
        except Failed as error:
            # Datatypes and told sizes fit, so it is an open size or a value that a node deep in the model cannot take.
            raise InvalidInput(sentence(error)) from error
        return dict(zip(wanted, results))
