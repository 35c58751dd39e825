"""Opens a file for a process that may not open it itself: it asks over a socket, and gets a descriptor.

Fronts are such processes (front/box.py). Their access log is opened again and again, because programs such as logrotate
move it. With its folder, they would have all that is in there, often the audit log.
"""

import errno
import os
import socket
import struct
from pathlib import Path
from threading import Thread

from gateway.process.line_file import open_for_appending

_ERRNO = struct.Struct("=i")


def serve_file(path: Path) -> socket.socket:
    """Open the file whenever the process with the other end of this socket asks, until it has closed that."""
    ours, theirs = socket.socketpair()
    # A thread, because opening may take long: on a network, or a pipe that nobody reads.
    Thread(target=_serve, args=(path, ours), name="file opener", daemon=True).start()
    return theirs


def _serve(path: Path, connection: socket.socket) -> None:
    with connection:
        while connection.recv(1):
            try:
                descriptor = open_for_appending(path)
            except OSError as error:
                connection.sendall(_ERRNO.pack(error.errno or errno.EIO))
                continue
            try:
                socket.send_fds(connection, [_ERRNO.pack(0)], [descriptor])
            finally:
                os.close(descriptor)


class FileOpener:
    """Asks for the file, in place of `open_for_appending`. Not for several threads at a time."""

    def __init__(self, connection: socket.socket) -> None:
        """`connection` is what `serve_file` has returned."""
        self._connection = connection

    def __call__(self, path: Path) -> int:
        """Return a descriptor of the file that the other side opens; `path` is for messages. Raises OSError."""
        self._connection.sendall(b"?")
        answer, descriptors, *_ = socket.recv_fds(self._connection, _ERRNO.size, 1)
        if not descriptors:
            number: int = _ERRNO.unpack(answer)[0] if len(answer) == _ERRNO.size else errno.EPIPE
            raise OSError(number, os.strerror(number), str(path))
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]
