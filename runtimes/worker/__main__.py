"""A worker's program, in one of two forms:

    PYTHON -I …/runtimes/worker/__main__.py PARENT_PID CONTROL_FD LISTEN_FD STATUS_PATH BOX
    PYTHON -I …/runtimes/worker/__main__.py PARENT_PID REQUESTS_FD RUNTIME BOXED

BOX is the worker's box as JSON (sandbox/box.py), or "" if it has none. The second form is a process that starts workers
as copies of itself (zygote.py). BOXED is 1 if these have boxes, else 0.

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
    parent, socket_fd = map(int, sys.argv[1:3])
    # Ctrl-C in the terminal is for the supervisor, which drains first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Python puts the folder of this script first on sys.path, where its modules could shadow those of a framework.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]
    runpy.run_path(os.path.join(os.path.dirname(_HERE), "bootstrap.py"))
    from runtimes.leash import die_with_parent

    die_with_parent(parent)
    from runtimes.sandbox.box import Box, confine
    from runtimes.status_page import StatusPage

    if len(sys.argv) == 5:
        from runtimes.worker.zygote import serve_forks

        # It returns in copies of this process, each of which is a worker.
        order = serve_forks(parent, socket.socket(fileno=socket_fd), sys.argv[3], sys.argv[4] == "1")
        control, listener, status_path, box = order
    else:
        control = socket.socket(fileno=socket_fd)
        listener = socket.socket(fileno=int(sys.argv[3]))
        status_path, box_json = sys.argv[4:]
        box = Box.from_json(json.loads(box_json)) if box_json else None
    status = StatusPage(status_path)
    status.drop_file()
    if box is not None:
        confine(box)  # before numpy is imported, which starts threads; copies have no others
    from runtimes.worker.start import serve

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
