# ruff: noqa: T201, S310, B905  # runs alone in a pod, on whatever Python its image has
"""``helm test``: upload an image, wait for its labels, read them. Standard library only.

python label.py http://frontend 600
"""

import io
import json
import os
import struct
import sys
import time
import urllib.parse
import urllib.request
import zipfile
import zlib

BOUNDARY = "cellkiosk-test"


def main(base, patience):
    name = call(base, "/api/upload", form(picture()), f"multipart/form-data; boundary={BOUNDARY}")["uploadedName"]
    order = {"jobType": "segmentation", "imageName": "test.png", "uploadedName": name}
    job = ask(base, "/api/predict", order)["hash"]
    fields = wait(base, job, time.monotonic() + patience)
    print(f"{job}: {fields['status']} {fields['reason'] or ''}", flush=True)
    if fields["status"] != "done":
        return 1
    path = urllib.parse.urlsplit(fields["output_url"]).path  # the public address may be out of reach from here
    with urllib.request.urlopen(request(base + path), timeout=60) as answer:
        names = zipfile.ZipFile(io.BytesIO(answer.read())).namelist()
    print(f"labels: {names}")
    return 0 if names and names[0].endswith(".tif") else 1


def wait(base, job, deadline):
    """Ask until the job has ended."""
    keys = ["status", "reason", "output_url"]
    while True:
        fields = dict(zip(keys, ask(base, "/api/redis", {"hash": job, "key": keys})["value"]))
        if fields["status"] in ("done", "failed", "canceled"):
            return fields
        if time.monotonic() > deadline:
            return fields | {"reason": "not done in time"}
        time.sleep(0.5)


def ask(base, path, body):
    return call(base, path, json.dumps(body).encode(), "application/json")


def call(base, path, data, kind):
    with urllib.request.urlopen(request(base + path, data, kind), timeout=60) as answer:
        return json.load(answer)


def request(url, data=None, kind=None):
    headers = {"Content-Type": kind} if kind else {}
    if key := os.environ.get("API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    return urllib.request.Request(url, data, headers)


def form(image):
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="test.png"\r\n\r\n'
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


def picture(size=256):
    """Bright discs on a dark ground, as a grey 8-bit PNG."""
    rows = []
    for y in range(size):
        row = bytearray([0])
        for x in range(size):
            distance = ((x % 64 - 32) ** 2 + (y % 64 - 32) ** 2) ** 0.5
            row.append(int(20 + 200 * max(0.0, min(1.0, (14 - distance) / 3 + 0.5))))
        rows.append(bytes(row))
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0))
    body += chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/"), float(sys.argv[2])))
