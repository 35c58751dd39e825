"""One thing done apart from serving, in a framework's or a converter's own environment.

Started as `python -I leashed.py …/runtimes/task.py JOB.json`. JOB.json says what is to be done, its
"answer" where the answer goes: whole, or not at all. What is printed goes to whoever started it.

  {"do": "infer", …}    run an artifact over files of inputs, as a worker would (runtimes/offline.py)
  {"do": "convert", …}  one step of an export (runtimes/conversion.py)
"""

import json
import os
import re
import runpy
import sys
import traceback
from typing import Any, Dict

_MAX_LENGTH = 300
_HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    """0 when the answer is written: {"failed": a sentence} or what was asked for."""
    with open(sys.argv[1]) as file:
        job = json.load(file)
    runpy.run_path(os.path.join(_HERE, "bootstrap.py"))
    from runtimes.contract import LoadError, first_line

    try:
        answer = _done(job)
    except LoadError as error:
        answer = {"failed": str(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - frameworks raise anything, and the user must read why
        traceback.print_exc()
        cause = error  # type: BaseException
        while cause.__cause__ is not None:  # what wraps it says less
            cause = cause.__cause__
        answer = {"failed": "%s: %s" % (type(cause).__name__, _telling(first_line(cause), str(cause)))}
    draft = job["answer"] + ".draft"
    with open(draft, "w") as file:
        json.dump(answer, file)
    os.replace(draft, job["answer"])
    return 0


def _telling(first: str, whole: str) -> str:
    """Of a text that begins with a trace, the end; of any, not more than a person reads."""
    if first.startswith(("in user code", "Traceback", "Exception encountered")):
        lines = [line.strip() for line in whole.splitlines() if line.strip()]
        first = next((line for line in reversed(lines) if re.match(r"\w*(Error|Exception)\b.*:", line)), lines[-1])
    return first if len(first) <= _MAX_LENGTH else first[:_MAX_LENGTH] + " …"


def _done(job: Dict[str, Any]) -> Dict[str, Any]:
    if job["do"] == "infer":
        from runtimes import offline

        return offline.infer(job)
    from runtimes import conversion

    return conversion.convert(job)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Frameworks' own exit handlers hang or crash often enough; the answer is written.
    os._exit(code)
