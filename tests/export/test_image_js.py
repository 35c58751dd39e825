"""The page decodes images like the gateway: gateway/export/pages/image.js against gateway/codecs/images.py."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gateway.export.page as page
from gateway.codecs.images import File, image_tensor
from gateway.domain.image_processing import Preprocess
from runtimes.contract import numpy_dtype
from runtimes.tensors import to_array
from tests.support.browser import node_of
from tests.support.image_files import noise, save

_IMAGE_JS = Path(page.__file__).parent / "pages" / "image.js"
_DIGITS = Preprocess((8, 8), "", "stretch", 0, 0, "box", "GRAY", True, 16 / 255, (0.0,), (1.0,), "flat")
_IMAGENET = Preprocess(
    (24, 24), "", "crop", 28, 0, "bilinear", "RGB", False, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "NCHW"
)


def smooth(height: int, width: int) -> np.ndarray:
    """Return UINT8 [height, width, 3] that changes slowly from pixel to pixel, as photographs do."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 7 + c) * np.cos(y / (5 + c)) for c in range(3)]
    return (127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)


_CONFIGS = [
    pytest.param(_DIGITS, id="digits"),
    pytest.param(_IMAGENET, id="imagenet"),
    pytest.param(_IMAGENET._replace(shorter_side=0, color="BGR", layout="NHWC"), id="crop-bgr-nhwc"),
    pytest.param(_DIGITS._replace(size=(13, 7), resize="pad", fill=90, layout="NHW", invert=False), id="pad-grey"),
    pytest.param(_IMAGENET._replace(resize="pad", shorter_side=0, size=(40, 31), fill=3), id="pad-color"),
    *(
        pytest.param(
            _IMAGENET._replace(interpolation=how, resize=resize, shorter_side=0, size=(17, 23)), id=f"{how}-{resize}"
        )
        for how in ("nearest", "box", "bilinear", "bicubic", "lanczos")
        for resize in ("stretch", "crop")
    ),
    pytest.param(_IMAGENET._replace(size=(90, 120), interpolation="bicubic", shorter_side=0), id="larger"),
]
_IMAGES = {
    "wide": noise(50, 71),
    "tall": noise(97, 20),
    "tiny": noise(3, 2),
    "square": noise(24, 24),
    "smooth": smooth(64, 48),
}


def in_page(node: Path, folder: Path, orders: list[dict[str, Any]]) -> list[np.ndarray]:
    file = folder / "orders.json"
    file.write_text(json.dumps(orders))
    script = Path(__file__).with_name("preprocess.js")
    done = subprocess.run([node, script, _IMAGE_JS, file], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [np.frombuffer(base64.b64decode(each), np.float64) for each in json.loads(done.stdout)]


@pytest.mark.parametrize("config", _CONFIGS)
@pytest.mark.parametrize("datatype", ["FP32", "INT32"])
def test_the_values_are_the_gateways(config: Preprocess, datatype: str, web_python: Path, tmp_path: Path) -> None:
    """Values of landscape images are equal to the last bit: the same fixed-point arithmetic, then the same FP64.

    For other images, Pillow 13 and newer scales the height first if that is less work. Intermediate values are then
    rounded, and clipped by bicubic and lanczos, at another point. Up to two levels of 255 are allowed, and in noise,
    which is clipped all the time, one level on average.
    """
    orders = []
    for pixels in _IMAGES.values():
        rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        orders.append(
            {
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "pixels": base64.b64encode(rgba.tobytes()).decode(),
                "config": config._asdict(),
                "whole": datatype == "INT32",
            }
        )
    answers = in_page(node_of(web_python), tmp_path, orders)
    for name, answer in zip(_IMAGES, answers, strict=True):
        file = File("the image", save(_IMAGES[name]))
        wanted = to_array(image_tensor([file], config, "x", datatype, 1 << 24))
        made = answer.astype(numpy_dtype(datatype))
        level = max(abs(config.scale) / deviation for deviation in config.std)
        apart = np.abs(made - wanted.ravel()) / (1 if datatype == "INT32" and level < 1 else level)
        if name == "wide":
            np.testing.assert_array_equal(made, wanted.ravel())
        elif name == "smooth" or config.interpolation in ("nearest", "box", "bilinear"):
            assert apart.max() <= 2.01, name
        else:
            assert apart.mean() <= 1, name


def test_grey_images_keep_their_levels(web_python: Path, tmp_path: Path) -> None:
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    rgba = np.dstack([levels, levels, levels, np.full((8, 8), 255, np.uint8)])
    pixels = base64.b64encode(rgba.tobytes()).decode()
    order = {"width": 8, "height": 8, "pixels": pixels, "config": _DIGITS._asdict(), "whole": False}
    (answer,) = in_page(node_of(web_python), tmp_path, [order])
    wanted = image_tensor([File("the image", save(levels))], _DIGITS, "x", "FP32", 1 << 20)
    np.testing.assert_array_equal(answer.astype(np.float32), to_array(wanted)[0])
