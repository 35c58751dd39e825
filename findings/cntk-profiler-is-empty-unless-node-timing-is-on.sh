#!/usr/bin/env bash
# CNTK 2.7: start_profiler() and enable_profiler() write a file without any event for Function.eval(). With another
# switch, set_node_timing(True) before the first run, the same file has the start and end of each operator, FP64 too. That
# switch's own output, print_node_timing(), exists for FP32 only: FP64 raises a type-cast error, about a node that
# the user did not make. And set_node_timing(False) calls a function that does not exist.
#
# Seen: an empty list; then events Tanh…Forward and ElementTimes…Forward for FP32 and FP64; a RuntimeError for FP64;
# AttributeError for set_node_timing(False).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.6 -m venv "$folder/venv" # the last wheels of CNTK are for 3.6
"$folder/venv/bin/pip" install --quiet cntk==2.7.post2 numpy==1.19.5 scipy==1.5.4 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cd "$folder"
# CNTK's wheel is linked against OpenMPI 1.10, which it lacks. In one process it asks for the rank and the size only, so
# where that release is not installed, a library with these two, and the names of the rest, takes its place.
libs=$(echo "$folder"/venv/lib/python3.6/site-packages/cntk/libs)
if ! ldconfig -p | grep -q 'libmpi_cxx\.so\.1 '; then
  names=$(nm -D --undefined-only "$libs"/lib*.so* 2>/dev/null | awk '{print $2}' | grep -E '^(MPI_|ompi_|_ZN3MPI)' | sed 's/@.*//' | sort -u)
  {
    echo 'int MPI_Initialized(int *flag) { *flag = 1; return 0; }'
    echo 'int MPI_Init_thread(int *c, char ***v, int wanted, int *got) { *got = wanted; return 0; }'
    echo 'int MPI_Finalize(void) { return 0; }'
    echo 'int MPI_Comm_rank(void *world, int *rank) { return *rank = 0; }'
    echo 'int MPI_Comm_size(void *world, int *size) { *size = 1; return 0; }'
    echo 'int MPI_Get_processor_name(char *name, int *length) { *name = 0; return *length = 0; }'
    for name in $names; do
      case $name in
      MPI_Initialized | MPI_Init_thread | MPI_Finalize | MPI_Comm_rank | MPI_Comm_size | MPI_Get_processor_name) ;;
      *) echo "char $name[512];" ;;
      esac
    done
  } >mpi.c
  cc -shared -fPIC -w -Wl,-soname,libmpi.so.12 -o "$libs/libmpi.so.12" mpi.c
  echo >empty.c
  cc -shared -fPIC -Wl,-soname,libmpi_cxx.so.1 -o "$libs/libmpi_cxx.so.1" empty.c
fi
cat >profile.py <<'PYTHON'
import glob
import json
import re

import cntk
import numpy as np
from cntk import debugging

cntk.device.try_set_default_device(cntk.device.cpu())


def profile(folder, dtype):
    """Return the names of the operators in the profiler's file, and the error of print_node_timing()."""
    x = cntk.input_variable(4, dtype=dtype)
    function = cntk.tanh(x) * cntk.constant(np.ones(4, dtype))
    debugging.start_profiler(folder)
    debugging.enable_profiler()
    for _ in range(3):
        function.eval({x: np.ones((1, 4), dtype)})
    debugging.disable_profiler()
    debugging.stop_profiler()
    error = ""
    try:
        function.print_node_timing()
    except RuntimeError as raised:
        error = str(raised)
    with open(glob.glob(folder + "/*_detail_*.json")[0]) as file:
        names = sorted({re.sub(r"\d+Forward$", "", event["name"]) for event in json.load(file)})
    print("CNTK", cntk.__version__, folder, "events:", names, "print_node_timing:", error.splitlines()[:1])
    return names, error


assert profile("untimed", np.float32)[0] == [], "the profiler records eval()"
debugging.set_node_timing(True)
names, error = profile("FP32", np.float32)
assert names == ["ElementTimes", "Tanh"] and not error, "FP32 has changed"
names, error = profile("FP64", np.float64)
assert names == ["ElementTimes", "Tanh"] and "type-cast" in error, "FP64 has changed"
try:
    debugging.set_node_timing(False)
    switched_off = True
except AttributeError as raised:
    print("set_node_timing(False):", raised)
    switched_off = False
assert not switched_off, "timing can be switched off"
PYTHON
"$folder/venv/bin/python" -W ignore profile.py 2>log || { tail -n 3 log >&2; exit 1; }
