"""`python leashed.py MODULE ARG…` is like `python -m MODULE ARG…`, but is killed when the process that started it ends.

A MODULE that ends in .py is a script's path.

Standard input must be a pipe whose other end only the starter holds. At end of file, which also comes if the starter
is killed, the whole process group is killed. PDEATHSIG is not enough, because it does not reach the processes that pip
and venv start; these would write into an environment that another gateway may be building by then.

Runs in the target interpreter, so on every Python from 3.6.
"""

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    leash = os.dup(0)  # unlike 0, not inherited by child processes
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
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
