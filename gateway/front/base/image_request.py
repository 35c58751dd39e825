"""Reads requests that consist of images: a body that is one image, or a form with several. Called in threads."""

from typing import TYPE_CHECKING, NamedTuple

from gateway.codecs.media_types import FORM, media_type
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.named_inputs import find_signature
from gateway.front.base.predictions import Prediction, read_predictions
from runtimes.tensors import Buffer

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
        """Return the predictions for each image, best first. Raises Internal if the outputs are not scores."""
        assert self.status.postprocess is not None
        return read_predictions(response, self.status.postprocess, self.status.class_labels, self.images)


def read_images(
    engine: Engine, model: str, version: str, body: Buffer, content_type: str, max_bytes: int
) -> ImageRequest:
    """Decode the images. They may take `max_bytes` after decoding.

    Raises InvalidRequest, NotFound, TooLarge, Unavailable.
    """
    if not model:
        raise InvalidRequest("an image cannot name the model; post it to /predict/{model}")
    status = engine.model(model, version)
    specs, preprocess = find_signature(status, "").inputs, status.preprocess
    if preprocess is None or len(specs) != 1:
        raise InvalidRequest(
            f"model '{model}' does not accept images; send its inputs as JSON or npy, or add [preprocess] to its "
            "model.toml"
        )
    # Imported late: Pillow and the form parser take longer to import than the rest of a front.
    from gateway.codecs.images import image_tensor

    files = _files(body, content_type)
    tensor = image_tensor(files, preprocess, specs[0].name, specs[0].datatype or "FP32", max_bytes)
    return ImageRequest(InferRequest(model, [tensor], version), status, len(files))


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
