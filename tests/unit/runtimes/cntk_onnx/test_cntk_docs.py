"""docs/cntk.md names all supported operations, and no others."""

import re

from runtimes.cntk_onnx.ops import REGISTRY
from tests.support import ROOT
from tests.unit.runtimes.cntk_onnx.mutations import MODELS

TEXT = (ROOT / "docs/cntk.md").read_text()


def test_every_operation_is_listed_once() -> None:
    table = TEXT[TEXT.index("| CNTK | ONNX | limits |") :].split("\n\n")[0].splitlines()[2:]
    listed = [name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(listed) == sorted(REGISTRY)


def test_the_number_of_models_is_stated() -> None:
    assert f"There are {len(list(MODELS.glob('*.npz')))} of them" in TEXT
