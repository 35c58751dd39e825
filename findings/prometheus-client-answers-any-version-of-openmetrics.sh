#!/usr/bin/env bash
# prometheus_client 0.26.0: choose_encoder(), which its servers use, compares the version in the Accept header with its
# own as a lower bound. It answers a request for OpenMetrics 9.9.9 with the text of 1.0.0 and names it 9.9.9; a version
# that is no number raises TypeError in place of a fallback to text/plain. Weights are ignored: OpenMetrics is chosen
# even where the client gives it q=0, which is "not acceptable".
#
# Seen: version=9.9.9 is the version of the answer, whose body is that of 1.0.0; version=1.0.0rc1 raises TypeError; q=0
# gets OpenMetrics.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prometheus_client==0.26.0
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder

registry = CollectorRegistry()
Gauge("g", "A gauge.", registry=registry).set(1)
kind = "application/openmetrics-text"


def answer(accept):
    try:
        encoder, content_type = choose_encoder(accept)
        found = content_type, encoder(registry)
    except TypeError as error:
        found = "TypeError: " + str(error), b""
    print("prometheus_client", importlib.metadata.version("prometheus_client"), "Accept:", accept, "->", found[0])
    return found


assert answer("text/plain")[0].startswith("text/plain; version=0.0.4")
known, future = answer(kind + ";version=1.0.0"), answer(kind + ";version=9.9.9")
assert "version=9.9.9" in future[0] and future[1] == known[1], "an unknown version is answered in another way"
assert answer(kind + ";version=1.0.0rc1")[0].startswith("TypeError"), "the version may be a word"
assert answer(f"{kind};version=1.0.0;q=0,text/plain")[0].startswith(kind), "weights are read"
PYTHON
