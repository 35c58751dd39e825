"""Default limits. Settings use them, and so do fronts and managers that are created without settings.

MAX_*_BYTES are bytes, *_S are seconds, MIN_BODY_RATE is in bytes per second.
"""

from typing import Final

MAX_JSON_BYTES: Final = 8 << 20
MAX_BODY_BYTES: Final = 64 << 20
MAX_RESPONSE_BYTES: Final = 64 << 20
MAX_REQUESTS: Final = 4096
MAX_ADMITTED_BYTES: Final = 1 << 30
REQUEST_TIMEOUT_S: Final = 60.0
HEADER_TIMEOUT_S: Final = 30.0
MIN_BODY_RATE: Final = 1024
AUDIT_SHARE: Final = 0.01
GRACE_S: Final = 30.0
POLL_S: Final = 2.0
