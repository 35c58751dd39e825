"""Write Deeplearning4j's model zips: ModelSerializer.writeModel, without updater state."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.runtimes.dl4j import arrays


def write(
    path: Path,
    configuration: dict[str, Any],
    coefficients: np.ndarray,
    *,
    era: str = "MIXED_DATA_TYPES",
    dtype: str = "FLOAT",
    normalizer: bytes | None = None,
) -> None:
    """coefficients: [N] or [1, N], written as [1, N]; a model without any has noParams.marker instead.

    era         MIXED_DATA_TYPES (beta4 on), LONG_SHAPE (beta3) or JAVACPP (0.5 to alpha)
    dtype       FLOAT, DOUBLE or HALF
    normalizer  bytes from tests.unit.runtimes.dl4j.normalizers
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("configuration.json", json.dumps(configuration, indent=2))
        if np.size(coefficients):
            file.writestr("coefficients.bin", arrays.array(np.ravel(coefficients), dtype, era))
        else:
            file.writestr("noParams.marker", b"")
        if normalizer is not None:
            file.writestr("normalizer.bin", normalizer)
