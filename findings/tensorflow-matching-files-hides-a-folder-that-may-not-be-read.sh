#!/usr/bin/env bash
# tensorflow-cpu 2.21.0: the operator MatchingFiles (tf.io.matching_files, tf.io.gfile.glob, and with them
# tf.data.Dataset.list_files) returns no names for a folder that may not be read, as if it were empty or did not exist.
# Listing the same folder with tf.io.gfile.listdir raises PermissionDeniedError. A missing permission on a volume
# therefore looks like a data set without files, and in a served graph like an input that matches nothing.
#
# Seen: listdir raises PermissionDeniedError; matching_files and glob return [] for the folder and for one below it.
# Fails if matching_files raises, or if listdir does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+rwx "$folder"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0
mkdir -p "$folder/data/closed/inner"
touch "$folder/data/closed/inner/a.txt"
chmod 711 "$folder"
chmod 000 "$folder/data/closed"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - "$folder/data/closed" <<'PYTHON'
import os
import sys

import tensorflow as tf

closed = sys.argv[1]
if os.geteuid() == 0:  # root may read everything
    os.setgid(65534)
    os.setuid(65534)
try:
    listed = f"listdir returned {tf.io.gfile.listdir(closed)}"
except tf.errors.PermissionDeniedError:
    listed = "listdir raises PermissionDeniedError"
patterns = [f"{closed}/*", f"{closed}/inner/*.txt"]
matched = [tf.io.matching_files(pattern).numpy().tolist() for pattern in patterns]
globbed = [tf.io.gfile.glob(pattern) for pattern in patterns]
print(f"tensorflow {tf.__version__}: {listed}; matching_files {matched}, glob {globbed}")
assert listed == "listdir raises PermissionDeniedError", "listing a closed folder no longer fails"
assert matched == globbed == [[], []], "a closed folder no longer looks like an empty one"
PYTHON
