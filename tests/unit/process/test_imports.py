"""Imports without what a process does not need."""

import subprocess
import sys

import pytest

from gateway.process.imports import Stub, replaced


def test_a_module_is_replaced_only_in_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this_is_none", raising=False)
    stub = Stub("colorsys")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with replaced({"colorsys": stub, "this_is_none": None, "json": None}):
        import colorsys
        import json

        assert colorsys is stub
        assert json.loads("1") == 1  # it had been imported before
        with pytest.raises(ImportError):
            __import__("this_is_none")
    assert "colorsys" not in sys.modules
    import colorsys as real

    assert real is not stub


def test_a_stub_has_constants_and_classes() -> None:
    stub = Stub("stub")
    assert stub.SOME_CONSTANT == 0
    assert issubclass(stub.SomeError, Exception)
    with pytest.raises(AttributeError):
        stub.__path__  # noqa: B018


def test_tls_can_be_imported_afterwards() -> None:
    program = (
        "import gateway.process.imports as i; i.import_for_front(); import ssl, hashlib, asyncio, uvicorn.main; "
        "print(ssl.create_default_context(), hashlib.sha256(b'').hexdigest(), uvicorn.main.run)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
