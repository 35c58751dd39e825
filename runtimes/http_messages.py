"""How a model that answers HTTP requests itself gets them, and returns answers: as strings of bytes.

The handlers of TorchServe, Multi Model Server and SageMaker are such models. A row of the input BODY is the body of a
request, and the same row of the optional input HEADERS has its headers as JSON: names in lower case, and texts. The
outputs are likewise; the header STATUS is the status of the answer.
"""

import json
from typing import Dict, Mapping

from runtimes.contract import InvalidInput, Signature, TensorSpec

# As runtime.toml calls the formats of such models.
PLATFORM = "handler"
BODY, HEADERS, RESPONSE, RESPONSE_HEADERS = "body", "headers", "response", "response_headers"
STATUS = ":status"

SIGNATURE = Signature(
    tuple(TensorSpec(name, "BYTES", (-1,)) for name in (BODY, HEADERS)),
    tuple(TensorSpec(name, "BYTES", (-1,)) for name in (RESPONSE, RESPONSE_HEADERS)),
    {},
    (HEADERS,),
    {RESPONSE: (BODY,), RESPONSE_HEADERS: (BODY, HEADERS)},
)


def pack_headers(headers: Mapping[str, str]) -> bytes:
    return json.dumps(headers).encode()


def unpack_headers(packed: bytes) -> Dict[str, str]:
    """Raises InvalidInput, because any client may have written them."""
    try:
        headers = json.loads(packed.decode())
    except (ValueError, RecursionError):
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidInput("every element of '%s' must be a JSON object with texts as values" % HEADERS)
    try:
        "".join([*headers, *headers.values()]).encode()
    except UnicodeEncodeError:  # JSON can write halves of characters ("\\ud800")
        raise InvalidInput("an element of '%s' has text that is not Unicode" % HEADERS) from None
    return {name.lower(): value for name, value in headers.items()}
