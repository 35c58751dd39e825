"""The last step of a build that a runtime itself defines, and CNTK's, which provides two MPI libraries."""

import asyncio
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.environments.environment import build, locate
from gateway.environments.errors import EnvironmentUnavailable
from tests.support import ROOT

MPI = ROOT / "runtimes" / "cntk" / "mpi.py"


def test_it_runs_in_the_environment_when_all_is_installed(tmp_path, wheel, runtime):
    wheel("tiny")
    script = "import sys, tiny; open(sys.prefix + '/made', 'w').write(tiny.VERSION)"
    (tmp_path / "last.py").write_text(script)
    environment = locate(runtime("tiny==1.0", prepare="last.py"), "cpu", tmp_path)
    asyncio.run(build(environment, lambda line: None))
    assert environment.ready
    assert (environment.folder / "made").read_text() == "1.0"


def test_its_last_line_says_why_it_failed(tmp_path, wheel, runtime):
    wheel("tiny")
    (tmp_path / "last.py").write_text(
        "print('before'); print('there is no compiler: install gcc'); raise SystemExit(1)"
    )
    environment = locate(runtime("tiny==1.0", prepare="last.py"), "cpu", tmp_path)
    with pytest.raises(EnvironmentUnavailable, match="there is no compiler: install gcc"):
        asyncio.run(build(environment, lambda line: None))
    assert not environment.ready


def test_another_script_is_another_environment(tmp_path, runtime):
    (tmp_path / "last.py").write_text("")
    (tmp_path / "last.c").write_text("one")
    with_script = runtime("tiny==1.0", prepare="last.py")
    first = locate(with_script, "cpu", tmp_path).folder
    (tmp_path / "last.c").write_text("two")
    assert locate(with_script, "cpu", tmp_path).folder != first
    assert locate(runtime("tiny==1.0"), "cpu", tmp_path).folder != first


def mpi(site: Path, path: str) -> "subprocess.CompletedProcess[str]":
    """Run mpi.py as in an environment with its packages in `site` and this PATH."""
    script = (
        "import runpy, sys, sysconfig\n"
        f"sysconfig.get_paths = lambda: {{'purelib': {str(site)!r}}}\n"
        f"runpy.run_path({str(MPI)!r}, run_name='__main__')\n"
    )
    environment = {**os.environ, "PATH": path}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)


def test_a_compiler_makes_what_cntk_asks_of_mpi(tmp_path):
    libraries = tmp_path / "cntk" / "libs"
    libraries.mkdir(parents=True)
    done = mpi(tmp_path, os.environ["PATH"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(os.listdir(libraries)) == ["libmpi.so.12", "libmpi_cxx.so.1"]
    made = ctypes.CDLL(str(libraries / "libmpi.so.12"))
    rank, size = ctypes.c_int(7), ctypes.c_int(7)
    assert made.MPI_Comm_rank(None, ctypes.byref(rank)) == made.MPI_Comm_size(None, ctypes.byref(size)) == 0
    assert (rank.value, size.value) == (0, 1)


def test_without_a_compiler_and_openmpi_it_says_what_to_install(tmp_path):
    (tmp_path / "cntk" / "libs").mkdir(parents=True)
    done = mpi(tmp_path, str(tmp_path))
    if (tmp_path / "cntk" / "libs" / "libmpi.so.12").exists():
        pytest.skip("this machine has OpenMPI, which takes the compiler's place")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("CNTK needs a C compiler or OpenMPI to run: install gcc, or OpenMPI")
