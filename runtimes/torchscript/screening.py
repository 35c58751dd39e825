"""Refuses archives of torch.export that could make PyTorch run code while it loads them.

PyTorch trusts these files: it unpickles any object in them, evaluates the expressions of sizes and guards as Python,
writes names into source code that it compiles, and loads shared libraries that are next to a program. What it writes
itself needs none of that, so anything else is refused before PyTorch sees it.
"""

import ast
import builtins
import json
import math
import os
import re
import zipfile
from fnmatch import fnmatch
from functools import lru_cache
from typing import Any, FrozenSet, Iterator, List, Tuple

import torch

from runtimes.contract import LoadError

COMPILED = "*/data/aotinductor/*"
LEGACY = "serialized_exported_program.json"  # of PyTorch 2.5 to 2.7; it has no folder around it
_PICKLED = "opaque_obj"
_NAME = re.compile(r"[\w.]*")
_TEXT = re.compile(r"[\w .:/-]*")
_BUILTINS = {"max", "min", "abs", "round"}
_METHODS = {"size", "stride", "storage_offset", "dim", "sym_float", "_sym_sqrt", *vars(math)}
_NODES = (
    ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.boolop, ast.operator, ast.unaryop,
    ast.cmpop, ast.expr_context, ast.Subscript, ast.keyword, ast.Tuple,
)  # fmt: skip


def is_compiled(names: List[str]) -> bool:
    """Return whether an archive with these entries is an AOTInductor package."""
    return any(fnmatch(name, COMPILED) for name in names)


def load_screened(path: str) -> Any:
    """Return the exported program in an archive, which `screen` has accepted as it is now. Raises as `screen` does."""
    screen(path)
    return torch.export.load(path)


def screen(path: str) -> None:
    """Raises LoadError, and what zipfile and PyTorch raise for an archive that is damaged."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # a pickle may contain tensors only
    names, programs = _read(path)
    if any(_PICKLED in name for name in names):
        raise LoadError("this exported program contains pickled Python objects, which are code: export the model again")
    if any("aotinductor" in name for name in names):
        raise LoadError("this archive contains compiled code next to an exported program: save the program alone")
    for program in programs:
        _screen_program(json.loads(program))


def _read(path: str) -> Tuple[List[str], List[bytes]]:
    """Return the names of the entries, and the programs, as PyTorch's own reader finds them."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if LEGACY in names:
            # PyTorch first tries its newer reader on it.
            if any("/" in name and not name.startswith("extra_files/") for name in names):
                raise LoadError("this archive mixes two layouts of torch.export: export the model again")
            return names, [archive.read(LEGACY)]
    reader = torch._C.PyTorchFileReader(path)
    records = reader.get_all_records()
    return names + records, [reader.get_record(name) for name in records if name.startswith("models/")]


def _screen_program(program: Any) -> None:
    for key, value in _strings(program, ""):
        if key in ("expr_str", "guards_code"):
            _screen_expression(value)
        elif key in ("name", "as_name", "forward_arg_names") and not _NAME.fullmatch(value):
            raise _not_a_program()
        elif key == "in_spec" and value:
            _screen_inputs(json.loads(value))


def _strings(value: Any, key: str) -> Iterator[Tuple[str, str]]:
    """Yield each text with the key that it is under. Descriptions of nodes, which PyTorch only shows, are left out."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name != "metadata":
                yield from _strings(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each, key)
    elif isinstance(value, str):
        yield key, value


def _screen_inputs(spec: Any) -> None:
    """Check the names of arguments, which become part of a function's source, and the types that would be imported."""
    top = spec[1]
    keywords = top["children_spec"][1]["context"] if len(top["children_spec"]) > 1 else "[]"
    if any(not isinstance(name, str) or not name.isidentifier() for name in json.loads(keywords)):
        raise _not_a_program()
    if any(key == "type" and "defaultdict" in value for key, value in _strings(spec, "")):
        raise LoadError("one of the model's arguments is a defaultdict: export it with a dict")


def _screen_expression(text: str) -> None:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _not_a_program() from None
    for node in ast.walk(tree):
        if not _is_harmless(node):
            raise _not_a_program()


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or bool(_TEXT.fullmatch(node.value))
    if isinstance(node, ast.Name):
        return node.id in _BUILTINS or not (hasattr(builtins, node.id) or node.id.startswith("__"))
    if isinstance(node, ast.Attribute):
        return node.attr in _METHODS and not node.attr.startswith("__")
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) or (isinstance(node.func, ast.Name) and node.func.id in _calls())
    return isinstance(node, _NODES)


@lru_cache(maxsize=None)
def _calls() -> FrozenSet[str]:
    """Return the names of the classes with which expressions are written, and of functions in guards."""
    import sympy  # takes a third of a second, which models of TorchScript need not wait for
    from torch.utils._sympy import functions

    found = [
        name
        for module in (sympy, functions)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, sympy.Basic)
    ]
    return frozenset(found) | _BUILTINS


def _not_a_program() -> LoadError:
    return LoadError(
        "this exported program has a size, a guard or a name that PyTorch does not write itself and that could run "
        "code: export the model again"
    )
