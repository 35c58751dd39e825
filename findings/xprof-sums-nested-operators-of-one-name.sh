#!/usr/bin/env bash
# xprof 2.24.2 (the profile plugin of TensorBoard): the table of framework operators has one row per name, although an
# event is called NAME:TYPE and the table has a column for the type. Operators of one name and different types become
# one row with the type of one of them; the other type is nowhere. If one ran inside the other, the row's total time
# counts the inner one twice and is longer than the trace. The self time is right.
#
# Seen: layer:Attention of 100 us with layer:Softmax of 40 us inside is one row, run twice, 140 us in total and 100 us of
# its own. With the name softmax for the inner one, there are two rows of 100 us and 40 us.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet xprof==2.24.2 protobuf==7.36.2
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 1 "$folder/log" >&2; exit 1; }
import importlib.metadata
import json
import os

from xprof.convert import raw_to_tool_data

US = 1_000_000  # picoseconds


def varint(value):
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def field(number, value):
    """A field of a protobuf message: an integer, a text or a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def space(events):
    """An XSpace with one plane and one line. events: (name, start in us, duration in us)."""
    known, line = b"", field(1, 1) + field(2, "thread")
    for key, (name, start, duration) in enumerate(events, 1):
        known += field(4, field(1, key) + field(2, field(1, key) + field(2, name)))
        line += field(4, field(1, key) + field(2, start * US) + field(3, duration * US))
    return field(1, field(1, 1) + field(2, "/host:CPU") + field(3, line) + known) + field(4, "host")


def rows(run, events):
    path = os.path.abspath(f"{run}/plugins/profile/run/host.xplane.pb")
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(space(events))
    data, _ = raw_to_tool_data.xspace_to_tool_data([path], "framework_op_stats", {"use_saved_result": False})
    table = json.loads(data)
    table = table[0] if isinstance(table, list) else table
    columns = [column["id"] for column in table["cols"]]
    found = [dict(zip(columns, (cell["v"] for cell in row["c"]))) for row in table["rows"]]
    keys = "operation", "type", "occurrences", "total_time", "total_self_time"
    found = [tuple(row[key] for key in keys) for row in found if row["type"] != "IDLE"]
    print("xprof " + importlib.metadata.version("xprof"), events, *[dict(zip(keys, row)) for row in found], sep="\n  ")
    return found


apart = rows("apart", [("layer:Attention", 0, 100), ("softmax:Softmax", 20, 40)])
assert apart == [("layer", "Attention", 1, 100, 60), ("softmax", "Softmax", 1, 40, 40)]
((name, kind, *numbers),) = rows("together", [("layer:Attention", 0, 100), ("layer:Softmax", 20, 40)])
assert name == "layer" and numbers == [2, 140, 100], "the sums have changed"
PYTHON
