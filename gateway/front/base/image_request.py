"""Reads requests that consist of images: a body that is one image, or a form with several. Called in threads.

[preprocess] of model.toml decodes them. A model whose only input is BYTES gets them as they were sent.
"""

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gateway.codecs.media_types import FORM, media_type
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.limits import Limits
from gateway.front.base.named_inputs import find_signature
from gateway.front.base.predictions import Prediction, read_predictions
from runtimes.contract import TensorSpec
from runtimes.tensors import Buffer, Tensor, from_array

if TYPE_CHECKING:
    from gateway.codecs.images import File


class ImageRequest(NamedTuple):
    """`images` is the number of images, which are one row of the input each."""

    request: InferRequest
    status: ModelStatus
    images: int

    @property
    def is_classified(self) -> bool:
        return self.status.postprocess is not None

    def predictions(self, response: InferResponse) -> list[list[Prediction]]:
        """Return the predictions for each image, best first.

        Raises Internal if the outputs are not scores, and InvalidRequest if a pipeline has made none of these images.
        """
        assert self.status.postprocess is not None
        output = self.status.postprocess.output
        if self.status.steps and not any(output in ("", tensor.name) for tensor in response.outputs):
            raise InvalidRequest("there are no scores, because the step that makes them was skipped")
        return read_predictions(response, self.status.postprocess, self.status.class_labels, self.images)


def read_images(
    engine: Engine, model: str, version: str, body: Buffer, content_type: str, limits: Limits
) -> ImageRequest:
    """Decode the images, unless the model does so itself.

    Raises InvalidRequest, NotFound, Overloaded, TooLarge, Unavailable.
    """
    if not model:
        raise InvalidRequest("an image cannot name the model; post it to /predict/{model}")
    status = engine.model(model, version)
    spec, preprocess = find_signature(status, "").only_input(), status.preprocess
    if spec is None or (preprocess is None and spec.datatype != "BYTES"):
        raise InvalidRequest(
            f"model '{model}' does not accept images; send its inputs as JSON or npy, or add [preprocess] to its "
            "model.toml"
        )
    files = _files(body, content_type)
    if preprocess is None:
        tensor = undecoded(files, spec)
    else:
        # Imported late: Pillow takes longer to import than the rest of a front.
        from gateway.codecs.images import image_tensor

        # Large inputs are written where the workers read them.
        allocate = partial(engine.buffer, model=model)
        datatype = spec.datatype or "FP32"
        tensor = image_tensor(files, preprocess, spec.name, datatype, limits.binary_bytes, allocate, limits.reserve)
    return ImageRequest(InferRequest(model, [tensor], version), status, len(files))


def undecoded(files: "list[File]", spec: TensorSpec) -> Tensor:
    """Return the files as they are, one element each, for a model that decodes them itself."""
    rank = 1 if spec.shape is None else len(spec.shape)
    elements = np.array([file.data for file in files], object)
    # If the rank does not fit, the engine says so.
    return from_array(spec.name, elements.reshape((-1, *[1] * (rank - 1)) if rank or len(files) > 1 else ()))


def _files(body: Buffer, content_type: str) -> "list[File]":
    from gateway.codecs.images import File
    from gateway.codecs.multipart import read_form

    if media_type(content_type) != FORM:
        return [File("the body", bytes(body))]
    parts = read_form(body, content_type)
    return [
        File(f"file {number} of the form (field '{part.name[:80]}')", bytes(part.content))
        for number, part in enumerate(parts, 1)
    ]
