"""Provides the two OpenMPI 1.10 libraries that CNTK's wheel is linked against but does not contain.

Serving only calls the functions for the rank and the number of processes, so with a C compiler a minimal library is
built from mpi.c. Otherwise, links to an installed OpenMPI take their place. Its releases up to 4 have the same
functions.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig

_C, _CXX = "libmpi.so.12", "libmpi_cxx.so.1"
_HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    # type: () -> int
    folder = os.path.join(sysconfig.get_paths()["purelib"], "cntk", "libs")
    if compiled(folder) or linked(folder):
        return 0
    print("CNTK needs a C compiler or OpenMPI to run: install gcc, or OpenMPI (Debian: apt install libopenmpi3)")
    return 1


def compiled(folder):
    # type: (str) -> bool
    compiler = next((each for each in ("cc", "gcc", "clang") if shutil.which(each)), None)
    if compiler is None:
        return False
    source = os.path.join(_HERE, "mpi.c")
    for name, flags in ((_C, []), (_CXX, ["-DEMPTY"])):
        library = os.path.join(folder, name)
        command = [compiler, "-shared", "-fPIC", "-O1", "-w", "-Wl,-soname," + name, *flags, "-o", library, source]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode:
            print(result.stdout.decode(errors="replace"))
            return False
    return True


def linked(folder):
    # type: (str) -> bool
    """Create symbolic links to OpenMPI's libraries. OpenMPI 5.0 removed the C++ bindings and cannot be used."""
    for release in (40, 20, 12):  # the sonames of OpenMPI 3 and 4, 2, and 1.10
        try:
            # The C++ library comes first, because loading it also loads the C library.
            found = {_CXX: _path("libmpi_cxx.so.%d" % release), _C: _path("libmpi.so.%d" % release)}
        except OSError:
            continue
        for name, path in found.items():
            link = os.path.join(folder, name)
            if os.path.lexists(link):
                os.remove(link)
            os.symlink(path, link)
        return True
    return False


def _path(soname):
    # type: (str) -> str
    """Return the path at which the dynamic linker finds a library. Raises OSError."""
    ctypes.CDLL(soname, mode=ctypes.RTLD_GLOBAL)
    with open("/proc/self/maps") as maps:
        paths = [line.split(None, 5)[5].strip() for line in maps if "/" in line]
    return next(path for path in paths if os.path.basename(path).startswith(soname))


if __name__ == "__main__":
    sys.exit(main())
