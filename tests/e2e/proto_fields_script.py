"""Print what a module of generated protobuf code declares, as JSON: `PYTHON proto_fields_script.py MODULE`.

Our modules and tritonclient's must declare the same, but cannot be imported into one process.
"""

import importlib
import json
import sys
from typing import Any


def fields(module: Any) -> dict[str, Any]:
    """Return each "message.field" or enum with its properties that affect the wire or the text format."""
    found: dict[str, Any] = {}
    for enum in module.DESCRIPTOR.enum_types_by_name.values():
        found[enum.full_name] = _values(enum)
    for message in module.DESCRIPTOR.message_types_by_name.values():
        found.update(_fields(message))
    return found


def _fields(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = {message.full_name: None}
    for field in message.fields:
        kind = field.message_type or field.enum_type
        oneof = field.containing_oneof.name if field.containing_oneof else ""
        found[field.full_name] = [
            field.number,
            field.type,
            field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED,
            kind.full_name if kind else "",
            "" if oneof.startswith("_") else oneof,  # `optional` adds a oneof for the field
        ]
    for enum in message.enum_types:
        found[enum.full_name] = _values(enum)
    for nested in message.nested_types:
        found.update(_fields(nested))
    return found


def _values(enum: Any) -> dict[str, int]:
    return {value.name: value.number for value in enum.values}


if __name__ == "__main__":
    print(json.dumps(fields(importlib.import_module(sys.argv[1]))))
