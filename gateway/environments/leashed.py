"""`python leashed.py MODULE ARG…`: like `python -m MODULE ARG…`, but killed when whoever started it ends.

A MODULE that ends in .py is a script's path.

Standard input must be a pipe whose other end only the starter holds: its end of file, which comes even when the
starter is killed, kills the whole process group. PDEATHSIG would not do: pip and venv start processes of their own,
which it does not reach, and which would write into an environment that somebody else builds by then.

Runs in the target interpreter, so on every Python from 3.6.
"""

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    leash = os.dup(0)  # not inherited by what pip starts, unlike 0
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_die_with_starter, args=(leash,), daemon=True).start()
    del sys.argv[0]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _die_with_starter(leash: int) -> None:
    os.read(leash, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
