"""The two libraries of OpenMPI 1.10 that CNTK's wheel is linked to, and does not bring.

Serving calls nothing of them but who and how many there are, so a library of our own will do, where there is a C
compiler. Else OpenMPI's own, of any later version, is put in their place: their functions are the same.
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
        made = os.path.join(folder, name)
        command = [compiler, "-shared", "-fPIC", "-O1", "-w", "-Wl,-soname," + name, *flags, "-o", made, source]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            print(done.stdout.decode(errors="replace"))
            return False
    return True


def linked(folder):
    # type: (str) -> bool
    """Symbolic links to OpenMPI's libraries. From 5.0 on it has no C++ any more, and will not do."""
    for release in (40, 20, 12):  # of OpenMPI 3 and 4, 2, 1.10
        try:
            # The second first: it brings the other.
            found = {_CXX: _path("libmpi_cxx.so.%d" % release), _C: _path("libmpi.so.%d" % release)}
        except OSError:
            continue
        for name, path in found.items():
            made = os.path.join(folder, name)
            if os.path.lexists(made):
                os.remove(made)
            os.symlink(path, made)
        return True
    return False


def _path(soname):
    # type: (str) -> str
    """Where the dynamic linker finds it. Raises OSError."""
    ctypes.CDLL(soname, mode=ctypes.RTLD_GLOBAL)
    with open("/proc/self/maps") as maps:
        paths = [line.split(None, 5)[5].strip() for line in maps if "/" in line]
    return next(path for path in paths if os.path.basename(path).startswith(soname))


if __name__ == "__main__":
    sys.exit(main())
