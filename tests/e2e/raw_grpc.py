"""gRPC calls by curl, for what no library would send. Messages are bytes; `field()` makes them."""

import os
import shutil
import struct
import subprocess
import tempfile

import harness

GENERATE = "vllm.grpc.engine.VllmEngine/Generate"
NATIVE_GENERATE = "sluice.v1.Inference/Generate"

# Codes of gRPC.
OK, INVALID_ARGUMENT, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 0, 3, 7, 8
UNIMPLEMENTED, UNAVAILABLE, UNAUTHENTICATED = 12, 14, 16


def available():
    """Whether there is a curl that speaks HTTP/2."""
    if not shutil.which("curl"):
        return False
    done = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=False)
    return "HTTP2" in done.stdout


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """One field of a message: an int, or bytes, or text, or a list of ints (packed)."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, list):
        value = b"".join(map(varint, value))
    return varint(number << 3 | 2) + varint(len(value)) + value


def vllm_generate(ids, max_tokens=3, request_id=""):
    """vllm.grpc.engine.GenerateRequest of token ids."""
    return (field(1, request_id) + field(2, field(2, ids))
            + field(4, field(8, max_tokens) + field(14, 1)))


class Reply:
    def __init__(self, headers, body):
        self.headers = headers  # initial and trailing ones; names in lower case
        self.body = body
        self.code = int(headers.get("grpc-status", -1))
        self.message = headers.get("grpc-message", "")


def call(port, method, message=b"", headers=(), timeout=60):
    """One call with one message. `headers`: "name: value" each. Without an answer, code is -1."""
    folder = tempfile.mkdtemp(prefix="sluice_grpc_")
    try:
        request, body = os.path.join(folder, "request"), os.path.join(folder, "body")
        with open(request, "wb") as file:
            file.write(b"\0" + struct.pack(">I", len(message)) + message)
        command = ["curl", "-sS", "--http2-prior-knowledge", "-D", "-", "-o", body, "-H",
                   "content-type: application/grpc", "-H", "te: trailers", "-H", "expect:"]
        for header in headers:
            command += ["-H", header]
        command += ["--data-binary", "@" + request, f"http://127.0.0.1:{port}/{method}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              timeout=timeout * harness.PATIENCE)
        lines = [line.partition(": ") for line in done.stdout.splitlines() if ": " in line]
        content = b""
        if os.path.exists(body):
            with open(body, "rb") as file:
                content = file.read()
        return Reply({name.lower(): value for name, _, value in lines}, content)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
