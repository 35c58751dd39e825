"""Runs a client program of Triton's examples as it is, but against another address than its localhost:8000.

python triton_bls_script.py ADDRESS PROGRAM
"""

import runpy
import sys
from typing import Any

import tritonclient.http as httpclient

address, program = sys.argv[1:]
original = httpclient.InferenceServerClient.__init__


def connect(self: Any, url: str, *arguments: Any, **options: Any) -> None:
    assert url == "localhost:8000"
    original(self, address, *arguments, **options)


httpclient.InferenceServerClient.__init__ = connect
runpy.run_path(program, run_name="__main__")
