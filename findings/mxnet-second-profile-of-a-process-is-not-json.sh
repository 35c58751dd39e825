#!/usr/bin/env bash
# MXNet 1.9.1: mx.profiler can write one file per process. After the first dump(), set_config() raises an error about
# `auto_remove_`, yet switches to the new file; the next dump() writes events there that begin with a comma and lack the
# head of the trace. Without set_config(), the next dump() appends them after the end of the first file, which was valid
# until then. dump(finished=False) does not help: a file has no end before dump(True).
#
# Seen: the first file is JSON and has the operator; the second begins with ","; one file with two dumps is "Extra data".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for python in python3 python3.11 python3.10 python3.9 python3.8; do # NumPy 1.23, which MXNet needs, has no later wheels
  "$python" -c 'import sys; sys.exit(not (3, 8) <= sys.version_info[:2] < (3, 12))' 2>/dev/null && break
done
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mxnet==1.9.1 numpy==1.23.5
cd "$folder"
cat >profile.py <<'PYTHON'
import json
import sys

import mxnet as mx


def read(path):
    with open(path) as file:
        return file.read()


def valid(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def profile(operator, finished):
    mx.profiler.set_state("run")
    operator(x, x).wait_to_read()
    mx.profiler.set_state("stop")
    mx.profiler.dump(finished)


x = mx.nd.ones((8, 8))
way = sys.argv[1]
mx.profiler.set_config(filename=way + ".json", profile_symbolic=True, profile_imperative=True)
profile(mx.nd.dot, way != "unfinished")
first, error = read(way + ".json"), ""
if way == "two":
    try:
        mx.profiler.set_config(filename="second.json", profile_symbolic=True, profile_imperative=True)
    except mx.MXNetError as raised:
        error = str(raised).strip().splitlines()[-1]
profile(mx.nd.maximum, way != "unfinished")
second = read("second.json" if way == "two" else way + ".json")
print("MXNet", mx.__version__, way, "JSON:", valid(first), valid(second), "second begins", repr(second[:1]), error)
assert '"dot"' in first and "maximum" in second, "an operator is missing"
assert valid(first) == (way != "unfinished"), "the first file has changed"
assert not valid(second), "the second dump is valid"
if way == "two":
    assert "auto_remove_" in error, "set_config no longer raises"
    assert second.startswith(","), "the second file has changed"
if way == "one":
    assert second.startswith(first[:40]) and len(second) > len(first), "the file is no longer appended to"
PYTHON
for way in two one unfinished; do
  "$folder/venv/bin/python" profile.py "$way"
done
