"""Default limits. Settings use them, and so do fronts and managers that are created without settings.

MAX_*_BYTES are bytes, *_S are seconds, MIN_BODY_RATE is in bytes per second, AUDIT_SHARE is a share of 1.
"""

from typing import Final

# Lower than the limit of binary bodies, because decoding JSON takes about 10 ms per MiB, and up to ten times that for
# nested lists (docs/protocols.md).
MAX_JSON_BYTES: Final = 8 << 20
# Larger bodies and responses are rejected. With higher limits, fewer clients can fill MAX_ADMITTED_BYTES.
MAX_BODY_BYTES: Final = 64 << 20
MAX_RESPONSE_BYTES: Final = 64 << 20
# Files in one request to load a model. A front needs about four times as much memory for it.
MAX_UPLOAD_BYTES: Final = 256 << 20
# Requests and bytes in progress, beyond which the gateway answers 429. Lower limits reject bursts that workers could
# have served in time; higher ones let requests wait, and occupy memory, until their deadline has passed.
MAX_REQUESTS: Final = 4096
MAX_ADMITTED_BYTES: Final = 1 << 30
# A shorter timeout fails requests of slow models; a longer one keeps requests queued whose client has given up.
REQUEST_TIMEOUT_S: Final = 60.0
# Stricter values disconnect clients on slow networks; laxer ones let an attacker hold many connections with little
# traffic (Slowloris).
HEADER_TIMEOUT_S: Final = 30.0
MIN_BODY_RATE: Final = 1024
# Audits run while a model is idle. More of them find a model whose batches give wrong answers sooner, and use more CPU.
AUDIT_SHARE: Final = 0.01
# The same as Kubernetes' default grace period (terminationGracePeriodSeconds), after which it kills a container.
GRACE_S: Final = 30.0
# Each scan reads the metadata of all files. A longer interval delays changes, which two scans must find alike.
POLL_S: Final = 2.0
# The response cache that models share, in each front. With less, fewer repeated requests find their answer; more is
# memory that the models do not have.
CACHE_BYTES: Final = 64 << 20
# Stores charge for listings: one of a thousand objects each 30 seconds is about half a dollar a month.
REMOTE_POLL_S: Final = 30.0
