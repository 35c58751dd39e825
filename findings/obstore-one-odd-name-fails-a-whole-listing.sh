#!/usr/bin/env bash
# obstore 0.12.1 (object_store): list() of an S3 bucket fails as a whole if the name of any object below the prefix has an
# empty part or one that is "." or "..", such as "m//1/model.onnx", which S3 allows. Nothing tells which objects are
# fine, and no option skips the others. Listings by folder (list_with_delimiter) fail only for the folder of that name.
#
# Seen: InvalidPathError, 'Path "m//1/model.onnx" contained empty path segment', and no object at all; the same
# listing by folder returns the other one.
# Fails if the listing returns the valid object.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet obstore==0.12.1
"$folder/venv/bin/python" - <<'PYTHON'
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer

import obstore
from obstore.store import S3Store

NAMES = ["good/1/model.onnx", "m//1/model.onnx"]


class Bucket(BaseHTTPRequestHandler):
    """Answers ListObjectsV2, with and without a delimiter."""

    def do_GET(self):
        query = dict(urllib.parse.parse_qsl(self.path.partition("?")[2]))
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items = set()
        for name in NAMES:
            rest = name.removeprefix(prefix)
            if name.startswith(prefix) and delimiter and delimiter in rest:
                items.add(f"<CommonPrefixes><Prefix>{prefix}{rest.split('/')[0]}/</Prefix></CommonPrefixes>")
            elif name.startswith(prefix):
                items.add(
                    f"<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
                    '<ETag>"1"</ETag><Size>1</Size></Contents>'
                )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(sorted(items))}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Bucket)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
store = S3Store("bucket", endpoint=url, region="us-east-1", skip_signature=True, client_options={"allow_http": True})
try:
    listed = [each["path"] for each in obstore.list(store).collect()]
except Exception as error:
    listed = []
    print(type(error).__name__, str(error).splitlines()[0])
print("list():", listed)
folders = obstore.list_with_delimiter(store)["common_prefixes"]
print("by folder:", folders, [each["path"] for each in obstore.list_with_delimiter(store, "good/1")["objects"]])
assert not listed, "the listing returns the valid object"
PYTHON
