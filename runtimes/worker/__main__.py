"""Started as `PYTHON -I …/runtimes/worker/__main__.py PARENT_PID CONTROL_FD LISTEN_FD STATUS_PATH`.

Runs in a framework's own interpreter, which may be Python 3.6. The gateway's site-packages are
never put on sys.path: the package `runtimes` is registered by its file, and nothing else comes in.
"""

import os
import runpy
import signal
import socket
import sys
import traceback

_HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    parent, control_fd, listen_fd, status_path = sys.argv[1:5]
    # A Ctrl-C in the terminal is the supervisor's to handle: it drains.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The folder of this script comes first on sys.path, and its module names are not for everyone.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]
    runpy.run_path(os.path.join(os.path.dirname(_HERE), "bootstrap.py"))
    from runtimes.leash import die_with_parent

    die_with_parent(int(parent))
    from runtimes.worker.start import serve

    control = socket.socket(fileno=int(control_fd))
    listener = socket.socket(fileno=int(listen_fd))
    return serve(control, listener, status_path)


if __name__ == "__main__":
    try:
        code = main()
    except BaseException:  # noqa: BLE001 - the log must know, whatever it was
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Frameworks' own exit handlers hang or crash often enough; nothing here needs them.
    os._exit(code)
