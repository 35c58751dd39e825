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
from typing import Any, Sequence, Tuple

import torch
from torch.utils._pytree import treespec_loads

from runtimes.checks import quoted
from runtimes.contract import LoadError, LoadOptions, Signature, TensorSpec

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
_ENTRY = re.compile(r"[^/]+/data/aotinductor/([^/]+)/.")


def load(options: LoadOptions) -> Program:
    if not options.allow_code:
        raise LoadError(
            "this is an AOTInductor package, which contains compiled code; start the gateway with --allow-python if "
            "you trust its author"
        )
    # The library reads any memory for inputs of another shape unless it is told to check them.
    os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = "1"
    try:
        name = _model_name(options.artifact)
        _check_machine(options.artifact, name, options.device)
        loader = torch._C._aoti.AOTIModelPackageLoader(options.artifact, name, True, 1, -1)
        in_spec, out_spec = map(treespec_loads, loader.get_call_spec())
    except LoadError:
        raise
    except Exception as error:
        raise LoadError("PyTorch cannot load this AOTInductor package: %s" % client_message(error)) from error
    count = in_spec.num_leaves
    names, outputs = declared_names(options.outputs, names_of(out_spec))
    return Program(
        call=lambda values: dict(zip(names, loader.boxed_run(list(values)))),
        kinds=[TENSOR] * count,
        signature=Signature(_inputs(options.inputs, count), outputs),
        name=lambda named: named,
        pure=False,  # results may share memory with inputs
        module=None,
    )


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
