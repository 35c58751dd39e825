"""One job outside of serving, in a framework's or a converter's own environment.

Started as `python -I leashed.py …/runtimes/job.py JOB.json`. JOB.json describes the job; its "answer" is
the file for the answer, which is written completely or not at all. Output goes to the process that started it.

  {"action": "run_cases", …}  run an artifact on files of inputs, as a worker would (runtimes/offline.py)
  {"action": "profile", …}    measure an artifact in batches of several sizes (runtimes/profile_job.py)
  {"action": "convert", …}    one step of an export (runtimes/conversion.py)
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
    """Return 0 once the answer is written: {"failed": a sentence}, or the result of the action."""
    with open(sys.argv[1]) as file:
        job = json.load(file)
    runpy.run_path(os.path.join(_HERE, "bootstrap.py"))
    from runtimes.contract import LoadError, first_line

    try:
        answer = _run(job)
    except LoadError as error:
        answer = {"failed": str(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - frameworks raise anything, and the user must read why
        traceback.print_exc()
        cause = error  # type: BaseException
        while cause.__cause__ not in (None, cause):  # exceptions that wrap another say less
            cause = cause.__cause__
        answer = {"failed": "%s: %s" % (type(cause).__name__, _summary(first_line(cause), str(cause)))}
    draft = job["answer"] + ".draft"
    with open(draft, "w") as file:
        json.dump(answer, file)
    os.replace(draft, job["answer"])
    return 0


def _summary(first: str, whole: str) -> str:
    """Return the first line, or the last error line if the text begins with a trace; shortened to _MAX_LENGTH."""
    if first.startswith(("in user code", "Traceback", "Exception encountered")):
        lines = [line.strip() for line in whole.splitlines() if line.strip()]
        first = next((line for line in reversed(lines) if re.match(r"\w*(Error|Exception)\b.*:", line)), lines[-1])
    return first if len(first) <= _MAX_LENGTH else first[:_MAX_LENGTH] + " …"


def _run(job: Dict[str, Any]) -> Dict[str, Any]:
    if job["action"] == "run_cases":
        from runtimes import offline

        return offline.run_cases(job)
    if job["action"] == "profile":
        from runtimes import profile_job

        return profile_job.profile(job)
    from runtimes import conversion

    return conversion.convert(job)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Skip the frameworks' exit handlers, which hang or crash at times: the answer is already written.
    os._exit(code)
