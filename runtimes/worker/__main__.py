"""A worker's program: `PYTHON -I …/runtimes/worker/__main__.py PARENT_PID CONTROL_FD LISTEN_FD STATUS_PATH BOX`.

BOX is the worker's box as JSON (sandbox/box.py), or "" if it has none.

It runs in the interpreter of a framework, which may be Python 3.6. The gateway's site-packages are never added to
sys.path: bootstrap.py registers the package `runtimes` by its path, and nothing else becomes importable.
"""

import json
import os
import runpy
import signal
import socket
import sys
import traceback

_HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    parent, control_fd, listen_fd, status_path, box_json = sys.argv[1:6]
    # Ctrl-C in the terminal is for the supervisor, which drains first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Python puts the folder of this script first on sys.path, where its modules could shadow those of a framework.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]
    runpy.run_path(os.path.join(os.path.dirname(_HERE), "bootstrap.py"))
    from runtimes.leash import die_with_parent

    die_with_parent(int(parent))
    from runtimes.status_page import StatusPage

    status, box = StatusPage(status_path), None
    status.drop_file()
    if box_json:
        from runtimes.sandbox.box import Box, confine

        box = Box.from_json(json.loads(box_json))
        confine(box)  # before numpy is imported, which starts threads
    from runtimes.worker.start import serve

    control = socket.socket(fileno=int(control_fd))
    listener = socket.socket(fileno=int(listen_fd))
    return serve(control, listener, status, box)


if __name__ == "__main__":
    try:
        code = main()
    except BaseException:  # noqa: BLE001 - whatever it was, it must be in the log
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Skip exit handlers: those of frameworks sometimes hang or crash, and nothing here needs them.
    os._exit(code)
