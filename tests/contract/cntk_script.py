"""Run each model in a folder with one of CNTK's runtimes: `PYTHON -I cntk_script.py RUNTIME FOLDER ANSWERS`.

For each NAME.npz, whose arrays in.* are the inputs of NAME.model, it writes an npz with the outputs, or NAME.txt with
the reason why the model is refused.
"""

import glob
import importlib
import os
import runpy
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main(name, folder, answers):
    runpy.run_path(os.path.join(ROOT, "runtimes", "bootstrap.py"))
    from runtimes.contract import LoadError, LoadOptions

    runtime = importlib.import_module("runtimes.%s.runtime" % name)  # noqa: UP031
    for path in sorted(glob.glob(os.path.join(folder, "*.npz"))):
        with np.load(path) as stored:
            inputs = {key[3:]: stored[key] for key in stored.files if key.startswith("in.")}
        answer = os.path.join(answers, os.path.basename(path))
        try:
            model = runtime.load(LoadOptions(artifact=path[:-4] + ".model"))
        except LoadError as error:
            with open(answer[:-4] + ".txt", "w") as file:
                file.write(str(error))
            continue
        signature = model.signatures["default"]
        found = model.infer(inputs, [spec.name for spec in signature.outputs], "default")
        if signature.optional:  # a prediction comes from a request without labels, and a loss from one with them
            given = {name: array for name, array in inputs.items() if name not in signature.optional}
            alone = model.infer(given, (), "default")
            assert list(alone) == signature.outputs_from(given)
            assert len(alone) < len(found)
            found.update(alone)
        np.savez(answer, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
