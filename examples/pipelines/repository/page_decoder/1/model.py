"""Decodes an image file of any size, and fits it onto a page of 128x128 pixels: 0 is paper, 1 is ink."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from modelport import InvalidInput

SIZE = (128, 128)


class Model:
    def predict(self, file: "BYTES[1]") -> {"page": "FP32[128, 128]"}:
        try:
            image = Image.open(io.BytesIO(file[0])).convert("L")
        except (UnidentifiedImageError, OSError):
            raise InvalidInput("the file is not an image: send a PNG or JPEG") from None
        fitted = ImageOps.pad(image, SIZE, color=255)
        return {"page": 1 - np.asarray(fitted, np.float32) / 255}
