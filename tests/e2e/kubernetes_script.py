"""Checks manifests, in an environment of kubernetes-validate, or of kserve for its kinds.

Usage: kubernetes_script.py FILE CRDS. FILE has a JSON list of manifests. Prints a JSON list of what is wrong with them.

- Kinds of Kubernetes: the schemas of its API, as kubernetes-validate has them, strictly.
- Kinds of KServe: the Python models of its SDK, and those of the client of Kubernetes that they refer to. Deserializing
  ignores what it does not know, so the fields are compared with the models' own tables.
- Other kinds: a schema in the folder CRDS.
"""

import json
import re
import sys
from pathlib import Path

VERSION = "1.37"
# As the tables write them. Quantities and ports are `object` there.
_SIMPLE = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def check(manifest, crds):
    kind, version = manifest["kind"], manifest["apiVersion"]
    if version.startswith("serving.kserve.io/"):
        name = version.rpartition("/")[2].capitalize() + kind
        return list(_fields(manifest, name, kind))
    import jsonschema
    import kubernetes_validate

    schema = crds / f"{kind.lower()}.json"
    if schema.exists():
        validator = jsonschema.Draft202012Validator(json.loads(schema.read_text()))
        return [f"{kind}: {error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
    try:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{kind}: {'.'.join(map(str, error.path))}: {error.message}"]
    except Exception as error:  # a kind or version without a schema
        return [f"{kind}: {error!r}"]
    return []


def _fields(value, expected, where):
    """Yield what is wrong with a value of a type as the tables write it: str, list[V1Container], dict(str, str), …"""
    if found := re.fullmatch(r"[lL]ist\[(.+)\]", expected):
        if not isinstance(value, list):
            yield f"{where}: must be a list"
            return
        for number, each in enumerate(value):
            yield from _fields(each, found[1], f"{where}[{number}]")
    elif found := re.fullmatch(r"(?:dict\(|Dict\[)(\w+), (.+)[\])]", expected):
        if not isinstance(value, dict):
            yield f"{where}: must be an object"
            return
        for key, each in value.items():
            yield from _fields(each, found[2], f"{where}.{key}")
    elif expected in _SIMPLE:
        if not isinstance(value, _SIMPLE[expected]) or (isinstance(value, bool) and expected != "bool"):
            yield f"{where}: must be {expected}, not {value!r}"
    elif (model := _model(expected)) is not None:
        if not isinstance(value, dict):
            yield f"{where}: must be an object"
            return
        names = {public: private for private, public in model.attribute_map.items()}
        for key, each in value.items():
            if key not in names:
                yield f"{where}: there is no field '{key}'"
            else:
                yield from _fields(each, model.openapi_types[names[key]], f"{where}.{key}")
    elif expected != "object":
        yield f"{where}: the type {expected} is not known"


def _model(name):
    import kserve.models
    import kubernetes.client.models

    return getattr(kserve.models, name, None) or getattr(kubernetes.client.models, name, None)


if __name__ == "__main__":
    manifests = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps([problem for each in manifests for problem in check(each, Path(sys.argv[2]))]))
