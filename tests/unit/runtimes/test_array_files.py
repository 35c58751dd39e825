"""Arrays that the processes of an export exchange in a file."""

from pathlib import Path

import numpy as np
import pytest

from runtimes import array_files, offline
from runtimes.contract import LoadError
from runtimes.control import Load
from tests.support import ROOT

STRINGS = np.array([[b"a\0", b"\0\0"], [b"", b"longer."]], dtype=object)


def test_strings_keep_zero_bytes_at_their_end(tmp_path: Path) -> None:
    arrays = {"file": STRINGS, "one": np.array(b"x\0\0", dtype=object), "none": np.empty((0, 2), dtype=object)}
    array_files.write(str(tmp_path / "a.npz"), arrays)
    read = array_files.read(str(tmp_path / "a.npz"))
    for name, array in arrays.items():
        assert (read[name].dtype, read[name].shape) == (object, array.shape)
        assert read[name].tolist() == array.tolist()


def test_a_model_is_given_strings_as_a_client_sends_them(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(
        '{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1, 2]}],'
        ' "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1, 2]}]}'
    )
    array_files.write(str(tmp_path / "given.npz"), {"x": STRINGS})
    (tmp_path / "results").mkdir()
    job = {
        "load": Load(str(ROOT / "runtimes" / "fake"), str(tmp_path / "model.json")).to_json(),
        "signature": "",
        "cases": [str(tmp_path / "given.npz")],
        "results": str(tmp_path / "results"),
        "fixed": 0,
        "fold": False,
        "large": False,
        "timed": "",
        "in_fp32": False,
    }
    assert offline.run_cases(job)["answers"] == [{}]
    answer = array_files.read(str(tmp_path / "results" / "given.npz"))["y"]
    assert answer.tolist() == [[b"a\0a\0", b"\0\0\0\0"], [b"", b"longer.longer."]]


@pytest.mark.parametrize(
    ("declared", "shapes", "missing", "way"),
    [
        ("", {}, "datatype and shape", "model.toml"),
        ("", {"x": [1, 4]}, "datatype", "model.toml"),
        (', "datatype": "FP32"', {}, "shape", "model.toml, or use --shape"),
    ],
)
def test_everything_that_an_input_lacks_is_named_at_once(
    tmp_path: Path, declared: str, shapes: dict[str, list[int]], missing: str, way: str
) -> None:
    """TorchScript archives record neither shapes nor datatypes; naming one at a time would lead to a second refusal."""
    (tmp_path / "model.json").write_text(f'{{"inputs": [{{"name": "x"{declared}}}]}}')
    load = Load(str(ROOT / "runtimes" / "fake"), str(tmp_path / "model.json")).to_json()
    with pytest.raises(LoadError) as refused:
        offline.run_cases({"load": load, "signature": "", "cases": [], "shapes": shapes, "decide": False})
    wanted = f"declares the {missing} of input 'x': declare it in [[inputs]] of {way}"
    assert str(refused.value) == f"neither the artifact nor model.toml {wanted}"
