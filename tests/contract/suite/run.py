"""Check what every runtime must do, in the runtime's own interpreter.

    PYTHON run.py RUNTIME_FOLDER ARTIFACT CASE_JSON

Print one JSON object per check: {"check": name, "ok": bool, "detail": text}; exit with 0 if all are ok. The suite
needs only numpy, and runs on Python 3.6 and newer.

A case is a JSON object. All keys are optional:

inputs, expected    npz files relative to the case. Without `inputs`, the inputs are ones in the signature's shapes (a
                    dynamic dimension is 2). Strings are stored with numpy's dtype S, since npz must not need pickle
expected_values     {output: nested list}: FP32 outputs; the model may have others
strings             true: the expected values are strings
values              {input: nested list}: inputs written out; if no datatype is known, numbers with a point are FP32
then                [[values, expected_values], …]: further requests, in this order
options             LoadOptions' declared "inputs" and "outputs" as [name, datatype, shape], "parameters", "device"
signature           the signature to run; default: the first
expected_signature  {"inputs": [[name, datatype, shape]], "outputs": …}: what the signature must be
refused             output names that must be refused
refused_later       output names that are refused once the first answer has shown that they cannot be served
left_out            output names that a request must not name, and that no answer contains
fails               the name of the exception that every request ends with, which is the model's fault
faults              [[artifact, {input: nested list}, whose, words]]: requests that fail, whose fault it is ("client",
                    "model", or "memory" if memory ran out), and words of the sentence
load_errors         {artifact: words that the LoadError of its loading must contain}
load_error          true: loading must fail with LoadError; or words that its sentence must contain
bad                 [{input: nested list, …}, …]: requests that must raise InvalidInput
stateful            true: the same request may be answered differently the next time
not_batchable       true: f(a‖b) need not be f(a)‖f(b)
analysis            what the graph analysis must find: "independent", or {"mixes", "writes" or "unknown": words of a
                    reason}
analyses            the same for other signatures, by name
operators           {node: operator}: what the framework's profiler must find to run for these nodes; or "unknown": it
                    must not be able to profile this model. Absent: it is not asked
graph               {node: operator}: nodes that the graph of a profile must have
ranges              {input: [low, high, …]}: the ranges that the graph must give
writing             the signatures that change the model's state: deciding about batching must not run them
tolerance           default 1e-4
labels, accuracy    an npz {output: right class per row}, and the share of rows that must be right
"""

import os
import runpy
import shutil
import sys
import tempfile

CONTRACT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, CONTRACT)


def main(runtime, artifact, case):
    """Run in the box of a worker, which must not change what a runtime can do."""
    runpy.run_path(os.path.join(CONTRACT, os.pardir, os.pardir, "runtimes", "bootstrap.py"))
    from runtimes.sandbox.box import Box, confine, seal

    scratch = tempfile.mkdtemp()
    os.environ["TMPDIR"] = os.environ["HOME"] = tempfile.tempdir = scratch
    folders = [runtime, CONTRACT, os.path.dirname(os.path.abspath(case)), os.path.dirname(os.path.abspath(artifact))]
    box = Box(read=tuple(folders), write=(scratch,))
    confine(box)
    from suite.suite import Suite

    suite = Suite(runtime, artifact, case)
    seal(box)
    done = suite.run()
    shutil.rmtree(scratch, ignore_errors=True)
    return done


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:4]) else 1)
