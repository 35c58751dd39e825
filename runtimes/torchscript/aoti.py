"""Loads AOTInductor packages (torch._inductor.aoti_compile_and_package): a shared library that runs the model.

The library is code of the model's author, so the operator must allow it. A package says for which device and which
instructions of the processor it was compiled. It contains the structure of the arguments and results, but no names, no
datatypes and no shapes. Inputs are INPUT__0, INPUT__1, … unless they are declared; outputs are named as those of an
exported program.
"""

import json
import os
import platform
import re
import sys
import zipfile
from typing import Any, List, Sequence, Tuple

import torch
from torch.utils._pytree import treespec_loads

from runtimes.bounded_cache import BoundedCache
from runtimes.checks import quoted
from runtimes.contract import InvalidInput, LoadError, LoadOptions, Signature, TensorSpec

from .names import by_position, declared_names, names_of
from .program import TENSOR, Program, client_message

# The instruction sets that Inductor compiles for, and what finds out whether this processor has them. A package names
# several for AVX-512 with extensions.
_INSTRUCTIONS = {
    "AVX2": torch.cpu._is_avx2_supported,
    "AVX512": torch.cpu._is_avx512_supported,
    "AVX512_VNNI": torch.cpu._is_vnni_supported,
    "AVX512_BF16": torch.cpu._is_avx512_bf16_supported,
    "AMX_TILE": torch.cpu._is_amx_tile_supported,
    "AMX_FP16": torch.cpu._is_amx_fp16_supported,
}
_SINGLE = re.compile(r"input_handles\[(\d+)\]: dim value is too small at (\d+), expected it to be >= 2, but got: 1\b")
_UNEQUAL = re.compile(r"expected (?:size \d+==\d+|ndim \d+ but got)")  # of what was computed from the inputs
_REFUSED = re.compile(r"input_handles\[(\d+)\]: ([^\n]+)")
_MAX_SHAPES = 1024
_ENTRY = re.compile(r"[^/]+/data/aotinductor/([^/]+)/.")


def load(options: LoadOptions) -> Program:
    if not options.allow_code:
        raise LoadError(
            "this is an AOTInductor package, which contains compiled code; use --allow-python if you trust its author"
        )
    try:
        name = _model_name(options.artifact)
        _check_machine(options.artifact, name, options.device)
        package = _Package(options.artifact, name)
        in_spec, out_spec = map(treespec_loads, package.call_spec())
    except LoadError:
        raise
    except Exception as error:
        raise LoadError("PyTorch cannot load this AOTInductor package: %s" % client_message(error)) from error
    count = in_spec.num_leaves
    inputs = _inputs(options.inputs, count)
    package.inputs = [spec.name for spec in inputs]
    names, outputs = declared_names(options.outputs, names_of(out_spec))
    return Program(
        call=lambda values: dict(zip(names, package.run(values))),
        kinds=[TENSOR] * count,
        signature=Signature(inputs, outputs),
        name=lambda named: named,
        pure=False,  # results may share memory with inputs
        module=None,
    )


class _Package:
    """Runs the library on inputs that it was compiled for.

    It reads any memory for inputs of another shape unless it is told to check them, which it asks once. Its checks also
    refuse a single row where the export allowed it, because the compiler never assumes sizes of 1. The same library
    without checks runs such inputs; it is loaded for them, after the other one has checked everything but that size.

    inputs  their names, for errors
    """

    def __init__(self, path: str, name: str) -> None:
        self._path, self._name = path, name
        self._checked, self._unchecked = self._load(), None
        self.inputs: List[str] = []
        self._single: BoundedCache[Any, bool] = BoundedCache(_MAX_SHAPES)

    def call_spec(self) -> List[str]:
        """Return the structures of the arguments and of the results, as JSON."""
        return list(self._checked.get_call_spec())

    def run(self, values: Sequence[Any]) -> List[Any]:
        key = tuple((value.shape, value.dtype) for value in values)
        if key not in self._single.entries:
            try:
                return self._run(self._checked, "1", values)
            except RuntimeError as error:
                if not _SINGLE.search(str(error)):
                    raise
                self._check_others(values, error)
            self._unchecked = self._unchecked or self._load()
            self._single.put(key, True)
        return self._run(self._unchecked, "0", values)

    def _check_others(self, values: Sequence[Any], error: RuntimeError) -> None:
        """Run with 2 in place of each size of 1 that is refused, to check everything else. Raises RuntimeError."""
        padded = list(values)
        while True:
            found = _SINGLE.search(str(error))
            if found is None:
                raise error
            index, dim = int(found[1]), int(found[2])
            padded[index] = torch.cat([padded[index], padded[index]], dim)
            try:
                self._run(self._checked, "1", padded)
                return
            except RuntimeError as another:
                error = another

    def _run(self, loader: Any, checks: str, values: Sequence[Any]) -> List[Any]:
        os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = checks  # read in the first run
        try:
            return list(loader.boxed_run(list(values)))
        except RuntimeError as error:
            found = _REFUSED.search(str(error))
            if _UNEQUAL.search(str(error)):
                raise InvalidInput(
                    "the shapes of the inputs do not match each other: the model was compiled for some equal sizes"
                ) from error
            if found is None or _SINGLE.search(str(error)):
                raise
            raise InvalidInput("input '%s' does not fit: %s" % (self.inputs[int(found[1])], found[2])) from error

    def _load(self) -> Any:
        return torch._C._aoti.AOTIModelPackageLoader(self._path, self._name, True, 1, -1)


def _model_name(path: str) -> str:
    """Return the name of the model in a package, which may contain several."""
    with zipfile.ZipFile(path) as archive:
        found = [_ENTRY.match(name) for name in archive.namelist()]
    names = sorted({match[1] for match in found if match})
    if "model" in names:
        return "model"
    if len(names) != 1:
        raise LoadError("this package contains the models %s: name the one to serve 'model'" % quoted(names))
    return names[0]


def _check_machine(path: str, name: str, device: str) -> None:
    """Raise LoadError if the library was compiled for another machine, where it could end the process."""
    facts = _facts(path, name)
    target = facts.get("AOTI_DEVICE_KEY", "cpu")
    if target != device:
        raise LoadError(
            "this AOTInductor package was compiled for %s, and the model runs on %s: set device in model.toml, or "
            "compile the model for %s" % (target, device, device)
        )
    system, machine = facts.get("AOTI_PLATFORM", sys.platform), facts.get("AOTI_MACHINE", platform.machine())
    if (system, machine) != (sys.platform, platform.machine()):
        raise LoadError(
            "this AOTInductor package was compiled for %s on %s, and this is %s on %s: compile the model here"
            % (machine, system, platform.machine(), sys.platform)
        )
    for each in facts.get("AOTI_CPU_ISA", "").split():
        if each in _INSTRUCTIONS and not _INSTRUCTIONS[each]():
            raise LoadError(
                "this AOTInductor package was compiled for processors with %s, which this one lacks: compile the "
                "model on a machine like this one" % each
            )
    capability = facts.get("AOTI_COMPUTE_CAPABILITY", "")
    if device == "cuda" and capability:
        major, minor = torch.cuda.get_device_capability()
        if capability != "%d%d" % (major, minor):
            raise LoadError(
                "this AOTInductor package was compiled for a card of compute capability %s, and this one has %d%d: "
                "compile the model for it" % (capability, major, minor)
            )


def _facts(path: str, name: str) -> Any:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            match = _ENTRY.match(entry)
            if match and match[1] == name and entry.endswith("wrapper_metadata.json"):
                return json.loads(archive.read(entry))
    raise LoadError("this AOTInductor package names no machine that it was compiled for: compile the model again")


def _inputs(declared: Sequence[TensorSpec], count: int) -> Tuple[TensorSpec, ...]:
    if not declared:
        return tuple(TensorSpec("INPUT__%d" % index) for index in range(count))
    positions = by_position(declared)
    if sorted(positions) != list(range(count)):
        raise LoadError(
            "%d inputs are declared, but the package has %d: declare INPUT__0 to INPUT__%d, or that many names in order"
            % (len(declared), count, count - 1)
        )
    return tuple(positions[index] for index in range(count))
